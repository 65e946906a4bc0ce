//! The plain dialect: every message a client sends is published to its channel, every publication
//! is one message to every subscriber, byte for byte and of the same kind. It has no other words.

use dunlin_core::{
    channel::ChannelName,
    publication::{Kind, Publication},
};
use dunlin_ws::MessageKind;

/// What a client's message publishes. The payload is copied once, into the frame that most of its
/// subscribers will get.
#[must_use]
pub fn publication(channel: &ChannelName, kind: MessageKind, payload: &[u8]) -> Publication {
    let frame = dunlin_ws::message_frame(kind, payload);
    let payload_start = frame.len() - payload.len();
    let kind = match kind {
        MessageKind::Text => Kind::Text,
        MessageKind::Binary => Kind::Binary,
    };
    Publication::with_plain_frame(channel.clone(), kind, frame, payload_start)
}

/// As what a client of this dialect gets a publication of this kind.
pub(crate) fn message_kind(kind: Kind) -> MessageKind {
    match kind {
        Kind::Binary => MessageKind::Binary,
        // Nobody is told in this dialect who comes and goes.
        Kind::Text | Kind::Join | Kind::Leave => MessageKind::Text,
    }
}
