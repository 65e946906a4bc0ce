//! What the JSON parser leaves to us: a bound on the depth, objects that are no arrays, null that
//! is not "absent", and white space, which must not reach the frames that a value is copied into.

use std::{fmt, marker::PhantomData};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::{RawValue, Value};

/// Parses `text` if its arrays and objects are nested no deeper than `depth_max`.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8], depth_max: usize) -> Option<T> {
    let text = str::from_utf8(text).ok().filter(|text| is_shallow(text.as_bytes(), depth_max))?;
    serde_json::from_str(text).ok()
}

/// A struct that is written as an object. By itself the parser would take an array of its values,
/// too.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        from.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A field that is an [`Object`], or null.
///
/// # Errors
/// Whatever is wrong with the value.
pub fn object<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(from)?.map(|Object(value)| value))
}

/// A field that may be absent, but is an [`Object`] if it is there.
///
/// # Errors
/// Whatever is wrong with the value.
pub fn present_object<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(from).map(|Object(value)| Some(value))
}

/// A field that may be absent, but is not null if it is there.
///
/// # Errors
/// Whatever is wrong with the value.
pub fn present<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(from).map(Some)
}

/// The JSON text without white space between its tokens; `None` if a parser may refuse it. A raw
/// value may hold half a surrogate pair, or a number that no machine has.
#[must_use]
pub fn compact(json: &RawValue) -> Option<Bytes> {
    serde_json::from_str::<Value>(json.get()).ok()?;
    let mut strings = Strings::default();
    let bytes = json.get().bytes();
    Some(bytes.filter(|&byte| strings.holds(byte) || !b" \t\r\n".contains(&byte)).collect())
}

/// Why a value is no JSON that can be copied into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A parser may refuse it.
    #[error("a value is not JSON")]
    NotJson,
    /// It should be base64.
    #[error("a value in base64 is not base64")]
    NotBase64,
}

/// A JSON value that may also be written in base64, which then counts, without white space. In
/// base64, too, it has to be JSON: it goes into frames of JSON.
///
/// # Errors
/// [`Unusable`].
pub fn either(
    plain: Option<&RawValue>,
    base64: Option<&str>,
    depth_max: usize,
) -> Result<Option<Bytes>, Unusable> {
    let compact = |value| compact(value).ok_or(Unusable::NotJson);
    let Some(base64) = base64.filter(|base64| !base64.is_empty()) else {
        return plain.map(compact).transpose();
    };
    let text = BASE64_STANDARD.decode(base64).map_err(|_| Unusable::NotBase64)?;
    compact(parse(&text, depth_max).ok_or(Unusable::NotJson)?).map(Some)
}

/// Whether arrays and objects in `text` are nested no deeper than `depth_max`.
#[must_use]
pub fn is_shallow(text: &[u8], depth_max: usize) -> bool {
    let mut strings = Strings::default();
    let mut depth = 0_usize;
    for &byte in text {
        match byte {
            _ if strings.holds(byte) => {}
            b'[' | b'{' if depth == depth_max => return false,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// Tells the bytes of strings from those between them.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// Whether the next byte of the text belongs to a string; its quotes do.
    fn holds(&mut self, byte: u8) -> bool {
        let was_inside = self.inside;
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.inside => self.escaped = true,
            b'"' => self.inside = !self.inside,
            _ => {}
        }
        was_inside || self.inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_but_not_from_strings() {
        let json = "{ \"a b\" :\t[1 ,\n\"\\\" \\\\\" , 2 ] }";
        let json: &RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(compact(json).unwrap(), &br#"{"a b":[1,"\" \\",2]}"#[..]);
    }

    #[test]
    fn what_only_some_parsers_take_is_not_copied() {
        for (json, is_good) in
            [(r#""\ud83d\ude00""#, true), (r#""\ud8ff""#, false), ("1e999", false)]
        {
            let json: &RawValue = serde_json::from_str(json).unwrap();
            assert_eq!(compact(json).is_some(), is_good, "{json}");
        }
    }

    #[test]
    fn objects_are_no_arrays() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Outer {
            number: u8,
            #[serde(default, deserialize_with = "object")]
            inner: Option<Inner>,
            #[serde(default, deserialize_with = "present_object")]
            other: Option<Inner>,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Inner {
            text: Option<String>,
        }
        let read = |text: &str| {
            let outer = serde_json::from_str::<Object<Outer>>(text);
            outer.ok().map(|Object(outer)| (outer.number, outer.inner, outer.other))
        };
        let inner = || Some(Inner { text: None });
        assert_eq!(read(r#"{"number":1}"#), Some((1, None, None)));
        assert_eq!(read(r#"{"inner":{},"number":1,"x":[]}"#), Some((1, inner(), None)));
        assert_eq!(read(r#"{"inner":null,"number":1,"other":{}}"#), Some((1, None, inner())));
        for text in [
            r#"[1,{},{}]"#,
            r#"{"number":1,"inner":["x"]}"#,
            r#"{"number":1,"other":["x"]}"#,
            r#"{"number":1,"other":null}"#,
            r#"{"number":1,"number":1}"#,
            "null",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn text_is_utf_8_also_where_nobody_looks() {
        let text = b"{\"x\":\"\xff\"}";
        assert!(parse::<Object<serde::de::IgnoredAny>>(text, 16).is_none());
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_are_none() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_shallow(nested(16).as_bytes(), 16));
        assert!(!is_shallow(nested(17).as_bytes(), 16));
        assert!(is_shallow(format!("\"\\\"{}\"", "[".repeat(99)).as_bytes(), 16));
        assert!(is_shallow("[],".repeat(99).as_bytes(), 16));
    }
}
