//! Publications: a message in a channel, and the wire frames it is delivered as.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::channel::ChannelName;

/// Whether a payload is text (valid UTF-8) or arbitrary bytes. It is delivered as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Valid UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// How a publication looks on the wire to a group of subscribers; all of a group share the same
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The plain dialect: the payload in one WebSocket frame.
    Plain,
    /// The plain dialect for connections that negotiated permessage-deflate.
    PlainDeflated,
}

impl Format {
    /// All formats; a publication has one slot for each.
    pub const ALL: [Self; 2] = [Self::Plain, Self::PlainDeflated];
}

/// Who published, came or left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The user; empty = nobody in particular.
    pub user: Arc<str>,
    /// The connection's name among clients.
    pub client: Arc<str>,
    /// What the connection's token says of it, raw JSON.
    pub conn_info: Option<Bytes>,
    /// What the subscription's token says of it, raw JSON.
    pub chan_info: Option<Bytes>,
}

/// A message in a channel, shared by everyone it is delivered to on this node.
pub struct Publication {
    channel: ChannelName,
    kind: Kind,
    payload: Payload,
    frames: [OnceLock<Bytes>; Format::ALL.len()],
}

/// Where the payload is.
enum Payload {
    /// By itself.
    Alone(Bytes),
    /// At the end of the plain frame, from this byte on: one buffer and no copy serve both.
    InPlainFrame(usize),
}

impl Publication {
    /// A publication of `data`, without any frame yet.
    #[must_use]
    pub fn new(channel: ChannelName, kind: Kind, data: Bytes) -> Self {
        let frames = [const { OnceLock::new() }; Format::ALL.len()];
        Self { channel, kind, payload: Payload::Alone(data), frames }
    }

    /// A publication whose frame in [`Format::Plain`] is made already and ends with its payload,
    /// from byte `payload_start` on.
    #[must_use]
    pub fn with_plain_frame(
        channel: ChannelName,
        kind: Kind,
        frame: Bytes,
        payload_start: usize,
    ) -> Self {
        let mut frames = [const { OnceLock::new() }; Format::ALL.len()];
        frames[Format::Plain as usize] = OnceLock::from(frame);
        Self { channel, kind, payload: Payload::InPlainFrame(payload_start), frames }
    }

    /// The channel it is published to.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Whether the payload is text or binary.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The payload, byte for byte as it was published.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.payload {
            Payload::Alone(data) => data,
            Payload::InPlainFrame(start) => {
                let frame = self.frames[Format::Plain as usize].get();
                frame.map_or(&[], |frame| &frame[*start..])
            }
        }
    }

    /// The wire frame in `format`: encoded by whoever asks first, shared by all others on this
    /// node.
    pub fn frame(&self, format: Format, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.frames[format as usize].get_or_init(|| encode(self))
    }
}

impl fmt::Debug for Publication {
    /// Names channel, kind and size; a payload is its publisher's business and stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("channel", &self.channel)
            .field("kind", &self.kind)
            .field("bytes", &self.data().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_encoded_once_per_format() {
        let channel = ChannelName::new("c").unwrap();
        let publication = Publication::new(channel, Kind::Text, Bytes::from_static(b"hi"));
        let first = publication.frame(Format::Plain, |p| Bytes::copy_from_slice(p.data())).clone();
        let again = publication.frame(Format::Plain, |_| unreachable!("encoded already"));
        assert_eq!(first, again);
        let other = publication.frame(Format::PlainDeflated, |_| Bytes::from_static(b"z"));
        assert_eq!(&other[..], b"z");
    }

    #[test]
    fn a_payload_can_live_in_its_frame() {
        let channel = ChannelName::new("c").unwrap();
        let frame = Bytes::from_static(b"\x81\x02hi");
        let publication = Publication::with_plain_frame(channel, Kind::Text, frame, 2);
        assert_eq!(publication.data(), b"hi");
        let frame = publication.frame(Format::Plain, |_| unreachable!("made already"));
        assert_eq!(&frame[..], b"\x81\x02hi");
    }
}
