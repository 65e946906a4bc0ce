//! What a Redis server can say in RESP3.

use bytes::Bytes;

/// One thing a server says. Payloads are slices of the read buffer, which lives as long as they do.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A publication pushed for a channel this connection subscribed to.
    Message {
        /// The Redis channel, prefix included.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// Any other push: confirmations and notices, answers to nothing.
    Push(Vec<Value>),
    /// The reply to the oldest unanswered command.
    Reply(Value),
}

/// A RESP3 value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+`, one line of text.
    Simple(Bytes),
    /// `-` or `!`, an error's code and text.
    Error(Bytes),
    /// `:`
    Integer(i64),
    /// `$`, any bytes.
    Bulk(Bytes),
    /// `=`, text behind its three letter format and a colon.
    Verbatim(Bytes),
    /// `,`, as written.
    Double(Bytes),
    /// `(`, as written.
    BigNumber(Bytes),
    /// `#`
    Boolean(bool),
    /// `_`, or RESP2's `$-1` and `*-1`.
    Null,
    /// `*`
    Array(Vec<Self>),
    /// `~`
    Set(Vec<Self>),
    /// `%`, pairs in the order they came.
    Map(Vec<(Self, Self)>),
    /// A body that would have exceeded the frame's bounds, or a whole reply that did; it was read
    /// and thrown away.
    Skipped {
        /// Its length in bytes.
        length: usize,
    },
}

impl Value {
    /// The bytes of anything that is text or bytes, errors excepted.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) | Self::Verbatim(bytes) => Some(bytes),
            _ => None,
        }
    }
}
