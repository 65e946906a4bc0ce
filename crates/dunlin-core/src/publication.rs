//! Publications: a message in a channel, and the wire frames it is delivered as.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{channel::ChannelName, position::Position};

/// What a publication brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A payload that is valid UTF-8.
    Text,
    /// A payload of any bytes.
    Binary,
    /// No payload: the client in its details joined the channel.
    Join,
    /// No payload: the client in its details left the channel.
    Leave,
}

/// How a publication looks on the wire to a group of subscribers; all of a group share the same
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// The dialect they speak.
    pub dialect: Dialect,
    /// Whether they negotiated permessage-deflate.
    pub is_deflated: bool,
}

/// Which protocol a client speaks, as far as publications look different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The payload in one WebSocket message.
    Plain,
    /// A push of the Centrifuge protocol.
    Centrifuge(PushFormat),
}

/// How pushes of the Centrifuge protocol look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PushFormat {
    /// How they are written.
    pub encoding: Encoding,
    /// The number that stands for the channel's name, where the subscriber agreed to one.
    pub number: Option<u32>,
    /// Whether payloads are sent as differences.
    pub delta: Delta,
}

/// How the Centrifuge protocol is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON texts.
    Json,
    /// Protobuf messages.
    Protobuf,
}

/// Whether a subscriber agreed to differences between publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delta {
    /// It did not.
    Off,
    /// It did, and does not have the publication before: it gets the whole.
    Full,
    /// It did, and has the publication before: it gets the difference where that is smaller.
    Fossil,
}

impl Format {
    /// The plain dialect without compression.
    pub const PLAIN: Self = Self { dialect: Dialect::Plain, is_deflated: false };
    /// The plain dialect for connections that negotiated permessage-deflate.
    pub const PLAIN_DEFLATED: Self = Self { dialect: Dialect::Plain, is_deflated: true };
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

/// What is known of a publication beside its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The client that published, joined or left; none for publications of the application.
    pub info: Option<ClientInfo>,
    /// What subscribers may filter by.
    pub tags: BTreeMap<String, String>,
    /// Whether it may be sent as the difference to the publication before it.
    pub allows_delta: bool,
}

/// A message in a channel, shared by everyone it is delivered to on this node.
pub struct Publication {
    channel: ChannelName,
    kind: Kind,
    payload: Payload,
    position: Option<Position>,
    details: Option<Box<Details>>,
    frames: OnceLock<Box<Frame>>,
}

/// Where the payload is.
enum Payload {
    /// By itself.
    Alone(Bytes),
    /// At the end of the plain frame, from this byte on: one buffer and no copy serve both.
    InPlainFrame(Bytes, usize),
}

/// A list that only grows: a publication is rarely wanted in more than one or two formats.
struct Frame {
    format: Format,
    bytes: Bytes,
    next: OnceLock<Box<Self>>,
}

/// What comes from other nodes is read into buffers of this size; what fills most of one may keep
/// it.
pub const SHARED_BUFFER_BYTES: usize = 64 * 1024;

impl Publication {
    /// A publication of `data`, without any frame yet.
    #[must_use]
    pub fn new(channel: ChannelName, kind: Kind, data: Bytes) -> Self {
        Self::with_payload(channel, kind, Payload::Alone(data))
    }

    /// A publication whose frame in [`Format::PLAIN`] is made already and ends with its payload,
    /// from byte `payload_start` on.
    #[must_use]
    pub fn with_plain_frame(
        channel: ChannelName,
        kind: Kind,
        frame: Bytes,
        payload_start: usize,
    ) -> Self {
        Self::with_payload(channel, kind, Payload::InPlainFrame(frame, payload_start))
    }

    fn with_payload(channel: ChannelName, kind: Kind, payload: Payload) -> Self {
        Self { channel, kind, payload, position: None, details: None, frames: OnceLock::new() }
    }

    /// The same with what is known beside the payload.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = (details != Details::default()).then(|| Box::new(details));
        self
    }

    /// The same at its place in the channel's stream, which the broker assigns.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// The same as it may be kept for long: a payload that came among others must not hold on to
    /// the buffer that they share. Brokers see to that where there is a position or are details;
    /// everything else is rarely kept and copied here.
    #[must_use]
    pub fn kept(self: &Arc<Self>) -> Arc<Self> {
        let is_shared = self.position.is_none() && self.details.is_none();
        if !is_shared || self.data().len() >= SHARED_BUFFER_BYTES / 2 {
            return Arc::clone(self);
        }
        let data = Bytes::copy_from_slice(self.data());
        Arc::new(Self::new(self.channel.clone(), self.kind, data))
    }

    /// The channel it is published to.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// What it brings.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its place in the channel's stream; none when the channel keeps nothing of it.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// What is known of it beside its payload.
    #[must_use]
    pub fn details(&self) -> Option<&Details> {
        self.details.as_deref()
    }

    /// The payload, byte for byte as it was published.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.payload {
            Payload::Alone(data) => data,
            Payload::InPlainFrame(frame, start) => &frame[*start..],
        }
    }

    /// The wire frame in `format`: encoded by whoever asks first, shared by all others on this
    /// node.
    pub fn frame(&self, format: Format, encode: impl Fn(&Self) -> Bytes) -> &Bytes {
        if let Payload::InPlainFrame(frame, _) = &self.payload
            && format == Format::PLAIN
        {
            return frame;
        }
        let mut slot = &self.frames;
        loop {
            let frame = slot.get_or_init(|| {
                Box::new(Frame { format, bytes: encode(self), next: OnceLock::new() })
            });
            if frame.format == format {
                return &frame.bytes;
            }
            slot = &frame.next;
        }
    }
}

impl fmt::Debug for Publication {
    /// Names channel, kind and size; a payload is its publisher's business and stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("channel", &self.channel)
            .field("kind", &self.kind)
            .field("bytes", &self.data().len())
            .field("position", &self.position)
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
        let first = publication.frame(Format::PLAIN, |p| Bytes::copy_from_slice(p.data())).clone();
        let again = publication.frame(Format::PLAIN, |_| unreachable!("encoded already"));
        assert_eq!(first, again);
        let other = publication.frame(Format::PLAIN_DEFLATED, |_| Bytes::from_static(b"z"));
        assert_eq!(&other[..], b"z");
    }

    #[test]
    fn what_is_kept_holds_no_buffer_of_others() {
        let buffer = Bytes::from(vec![b'a'; SHARED_BUFFER_BYTES]);
        let channel = ChannelName::new("c").unwrap();
        let kept = |data| Arc::new(Publication::new(channel.clone(), Kind::Text, data)).kept();
        let small = kept(buffer.slice(..80));
        let large = kept(buffer.slice(100..));
        assert_eq!((small.data(), large.data()), (&buffer[..80], &buffer[100..]));
        assert_ne!(small.data().as_ptr(), buffer.as_ptr());
        assert_eq!(large.data().as_ptr(), buffer[100..].as_ptr(), "it fills most of its buffer");
    }

    #[test]
    fn a_payload_can_live_in_its_frame() {
        let channel = ChannelName::new("c").unwrap();
        let frame = Bytes::from_static(b"\x81\x02hi");
        let publication = Publication::with_plain_frame(channel, Kind::Text, frame, 2);
        assert_eq!(publication.data(), b"hi");
        let frame = publication.frame(Format::PLAIN, |_| unreachable!("made already"));
        assert_eq!(&frame[..], b"\x81\x02hi");
    }
}
