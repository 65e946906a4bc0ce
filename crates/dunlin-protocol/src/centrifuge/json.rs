//! What is special to JSON: its framing, and data that is embedded as it stands.

use std::borrow::Cow;

use dunlin_core::{command::Command, json::Object};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{DecodeError, request};

/// The first command and what is behind it: there is one on each line, and the last line may end or
/// not.
pub(super) fn split_first(message: &[u8]) -> (&[u8], &[u8]) {
    let end = message.iter().position(|byte| *byte == b'\n').unwrap_or(message.len());
    (&message[..end], message.get(end + 1..).unwrap_or_default())
}

/// The command of one line.
pub(super) fn command(line: &[u8]) -> Result<Command, DecodeError> {
    let Object(command): Object<request::Command> =
        serde_json::from_slice(line).or(Err(DecodeError::Malformed))?;
    Ok(command.into())
}

/// `data` as a JSON text without line breaks: itself if it is JSON, else a JSON string of it, with
/// replacement characters where it is no UTF-8.
pub(super) fn text(data: &[u8]) -> Cow<'_, str> {
    // In valid JSON a raw line break is white space: strings hold none. (One search for each is
    // faster than one for both.)
    let has_breaks = |json: &str| json.contains('\n') || json.contains('\r');
    match serde_json::from_slice::<&RawValue>(data).map(RawValue::get) {
        Ok(json) if has_breaks(json) => Cow::Owned(json.replace(['\n', '\r'], "")),
        Ok(json) => Cow::Borrowed(json),
        Err(_) => Cow::Owned(string(&String::from_utf8_lossy(data))),
    }
}

/// The JSON string of `text`.
pub(super) fn string(text: &str) -> String {
    let mut string = Vec::with_capacity(text.len() + 2);
    value(&mut string, text);
    String::from_utf8(string).expect("JSON is UTF-8")
}

/// Appends a number, a boolean or a string.
pub(super) fn value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a vector takes all, and these have a JSON form");
}

/// Begins the next value of an array or object.
pub(super) fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

/// Begins the next field of an object.
pub(super) fn key(out: &mut Vec<u8>, name: &str) {
    separate(out);
    value(out, name);
    out.push(b':');
}
