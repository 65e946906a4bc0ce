//! What the JSON parser leaves to us: a bound on the depth, null that is not "absent", and white
//! space, which must not reach the frames that a value is copied into.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::{RawValue, Value};

/// Parses `text` if its arrays and objects are nested no deeper than `depth_max`.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8], depth_max: usize) -> Option<T> {
    if !is_shallow(text, depth_max) {
        return None;
    }
    serde_json::from_slice(text).ok()
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
    fn depth_is_bounded_and_brackets_in_strings_are_none() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_shallow(nested(16).as_bytes(), 16));
        assert!(!is_shallow(nested(17).as_bytes(), 16));
        assert!(is_shallow(format!("\"\\\"{}\"", "[".repeat(99)).as_bytes(), 16));
        assert!(is_shallow("[],".repeat(99).as_bytes(), 16));
    }
}
