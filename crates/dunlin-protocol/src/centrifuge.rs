//! The Centrifuge dialect.

use dunlin_core::{
    command::Command,
    error::Disconnect,
    event::Event,
    publication::{Encoding, Publication, PushFormat},
};
use dunlin_ws::MessageKind;

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
#[error("the message is not made of commands")]
pub struct DecodeError;

/// The commands of one message, in order.
pub fn commands(
    _encoding: Encoding,
    _message: &[u8],
) -> impl Iterator<Item = Result<Command, DecodeError>> {
    std::iter::once(Err(DecodeError))
}

/// Appends an event to the events of one message.
pub fn write_event(_encoding: Encoding, _event: &Event, _message: &mut Vec<u8>) {}

/// The payload of the message that brings a publication to its subscribers. `base` is the publication
/// that they had before, for differences.
#[must_use]
pub fn push(
    _publication: &Publication,
    _format: PushFormat,
    _base: Option<&Publication>,
) -> Vec<u8> {
    Vec::new()
}

/// How a client of the dialect is told why its connection ends.
#[must_use]
pub fn close_code(_why: Disconnect) -> (u16, &'static str) {
    (3000, "connection closed")
}
