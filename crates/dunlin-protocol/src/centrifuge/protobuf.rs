//! What is special to Protobuf: its framing and its wire types.

use dunlin_core::command::Command;
use prost::Message;

use super::{DecodeError, request};

/// The first command and what is behind it: each is behind its length.
pub(super) fn split_first(mut messages: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = prost::decode_length_delimiter(&mut messages).ok()?;
    messages.split_at_checked(length)
}

/// One command.
pub(super) fn command(bytes: &[u8]) -> Result<Command, DecodeError> {
    request::Command::decode(bytes).map(Command::from).or(Err(DecodeError::Malformed))
}

/// Appends a field that is a number or a boolean.
pub(super) fn number(out: &mut Vec<u8>, tag: u32, value: u64) {
    varint(out, u64::from(tag << 3));
    varint(out, value);
}

/// Begins a field that has a length, which comes next.
pub(super) fn key(out: &mut Vec<u8>, tag: u32) {
    varint(out, u64::from(tag << 3 | 2));
}

/// Appends a field that is text or any bytes.
pub(super) fn bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    key(out, tag);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Puts the length of what begins at `start` before it.
pub(super) fn insert_length(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    varint(out, (end - start) as u64);
    let length_bytes = out.len() - end;
    out[start..].rotate_right(length_bytes);
}

/// Appends seven bits in each byte, the lowest first; the high bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
