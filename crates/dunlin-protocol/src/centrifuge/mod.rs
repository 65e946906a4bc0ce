//! The Centrifuge dialect: commands come in, replies and pushes go out, as JSON or as Protobuf.
//!
//! Both encodings share one schema. Requests are structs that either decoder fills; replies are
//! written field by field, with the number and the name of each.

mod request;

mod json;
mod protobuf;

mod reply;

mod publication;

mod writer;

mod close;

use dunlin_core::{
    command::Command,
    event::Event,
    publication::{Encoding, Publication, PushFormat},
};
use dunlin_ws::MessageKind;

pub use self::close::close_code;
use self::writer::Writer;

/// The kind of message that an encoding travels in.
#[must_use]
pub fn message_kind(encoding: Encoding) -> MessageKind {
    match encoding {
        Encoding::Json => MessageKind::Text,
        Encoding::Protobuf => MessageKind::Binary,
    }
}

/// The bytes are no commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is no command.
    #[error("the message is not made of commands")]
    Malformed,
    /// A command is longer than it may be.
    #[error("a command is too long")]
    TooLong,
}

/// The commands of one message, in order. There is at least one, or an error; nothing that follows
/// an error counts. A command of more than `bytes_max` bytes is one.
#[must_use]
pub fn commands(encoding: Encoding, message: &[u8], bytes_max: usize) -> Commands<'_> {
    Commands { encoding, rest: Some(message), bytes_max }
}

/// See [`commands`].
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    encoding: Encoding,
    rest: Option<&'a [u8]>,
    bytes_max: usize,
}

impl<'a> Commands<'a> {
    /// What has not been looked at: commands of their own; none at the end.
    #[must_use]
    pub fn rest(&self) -> Option<&'a [u8]> {
        self.rest
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let split = match self.encoding {
            Encoding::Json => Some(json::split_first(rest)),
            Encoding::Protobuf => protobuf::split_first(rest),
        };
        let Some((command, behind)) = split else { return Some(Err(DecodeError::Malformed)) };
        if command.len() > self.bytes_max {
            return Some(Err(DecodeError::TooLong));
        }
        self.rest = (!behind.is_empty()).then_some(behind);
        Some(match self.encoding {
            Encoding::Json => json::command(command),
            Encoding::Protobuf => protobuf::command(command),
        })
    }
}

/// Appends an event to the events of one message.
pub fn write_event(encoding: Encoding, event: &Event, message: &mut Vec<u8>) {
    if encoding == Encoding::Json && !message.is_empty() {
        message.push(b'\n');
    }
    Writer::new(encoding, message).message(|reply| reply::event(reply, event));
}

/// The payload of the message that brings a publication to its subscribers. `base` is the
/// publication that they had before, for differences.
#[must_use]
pub fn push(publication: &Publication, format: PushFormat, base: Option<&Publication>) -> Vec<u8> {
    let mut message = Vec::with_capacity(publication.data().len() + PUSH_BYTES);
    Writer::new(format.encoding, &mut message).message(|reply| {
        reply.field(4, "push", |push| publication::push(push, publication, format, base));
    });
    message
}

/// What a push takes beside the payload, roughly.
const PUSH_BYTES: usize = 128;
