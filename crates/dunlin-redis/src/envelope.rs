//! How a publication looks in Redis.
//!
//! Text of which nothing else is known travels raw, so that `redis-cli` and any other program can
//! read and write it. Everything else travels behind three bytes: the magic `FF`, which can start
//! no UTF-8 text; a byte of version 1 and kind; a byte of flags. What does not begin with one of
//! these very heads, or does not go on as it promises, is raw: text if it is UTF-8, else bytes,
//! also when it begins with `FF` as pictures and UTF-16 do.
//!
//! ```text
//! FF 10 flags [details] payload     text      flag 10: details, see the module
//! FF 11 flags [details] payload     bytes
//! FF 12 flags [details]             the client in the details joined
//! FF 13 flags [details]             it left
//! FF 14 00 position message         any of the above, and raw ones, at its place in the stream:
//!                                   epoch, branch and offset of 8 bytes each, big endian
//! ```
//!
//! The last is what the script makes that keeps a publication; the message in it is what is kept.
//! Whatever a later version writes begins with `FF 44 75 6E` and its number, which no foreign
//! message does by chance: a node that is older skips it instead of taking it for a picture.

mod details;

use std::borrow::Cow;

use bytes::{Buf, Bytes};
use dunlin_core::{
    channel::ChannelName,
    position::{Epoch, Position},
    publication::{Details, Kind, Publication, SHARED_BUFFER_BYTES},
};

/// How publications look that have no place in a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As the module tells.
    #[default]
    Enveloped,
    /// As their payload alone, for the sake of programs that know no envelope. What is known beside
    /// it is lost on the way, and bytes that are UTF-8 arrive as text.
    Raw,
}

impl Format {
    /// Whether a publication goes without an envelope. Joins, leaves and what the nodes tell one
    /// another would be nothing without; nor may a payload that looks like one be taken for it.
    fn is_bare(self, publication: &Publication) -> bool {
        let is_like_one = || match publication.data() {
            [MAGIC, head, ..] => head >> 4 == VERSION || publication.data().starts_with(NEWER),
            _ => false,
        };
        self == Self::Raw
            && matches!(publication.kind(), Kind::Text | Kind::Binary)
            && !publication.channel().is_control()
            && !is_like_one()
    }
}

/// What stands before the payload of a publication.
pub fn head(publication: &Publication, format: Format) -> Cow<'static, [u8]> {
    if format.is_bare(publication) {
        return Cow::Borrowed(b"");
    }
    match (publication.kind(), publication.details()) {
        (Kind::Text, None) => Cow::Borrowed(b""),
        (Kind::Binary, None) => Cow::Borrowed(&[MAGIC, VERSION << 4 | BINARY, 0]),
        (kind, None) => Cow::Owned(vec![MAGIC, VERSION << 4 | kind_byte(kind), 0]),
        (kind, Some(details)) => {
            let mut head = vec![MAGIC, VERSION << 4 | kind_byte(kind), DETAILS];
            details::write(&mut head, details);
            Cow::Owned(head)
        }
    }
}

/// What a message from Redis is.
#[derive(Debug, PartialEq)]
pub struct Opened {
    /// Its place in the channel's stream.
    pub position: Option<Position>,
    /// What it brings.
    pub kind: Kind,
    /// What is known beside the payload.
    pub details: Option<Details>,
    /// The payload.
    pub data: Bytes,
}

impl Opened {
    /// The publication of `channel` that it is.
    pub fn into_publication(self, channel: ChannelName) -> Publication {
        let mut publication = Publication::new(channel, self.kind, self.data);
        if let Some(details) = self.details {
            publication = publication.with_details(details);
        }
        match self.position {
            Some(position) => publication.at(position),
            None => publication,
        }
    }
}

/// Tells what a message from Redis is. What has a position or details may be kept for long, and is
/// copied out of the buffer that it shares with others, unless it fills most of it.
///
/// # Errors
/// When a newer node wrote it.
pub fn open(message: Bytes) -> Result<Opened, NewerEnvelope> {
    let position = message.strip_prefix(POSITIONED).and_then(|rest| position(rest.get(..24)?));
    if position.is_some() {
        let opened = open_kept(detached(message.slice(MESSAGE_AT..)))?;
        return Ok(Opened { position, ..opened });
    }
    let has_details = matches!(message[..], [MAGIC, _, DETAILS, ..]);
    open_kept(if has_details { detached(message) } else { message })
}

/// The same bytes in a buffer of their own, unless they fill most of that which they share.
fn detached(message: Bytes) -> Bytes {
    match message.len() < SHARED_BUFFER_BYTES / 2 {
        true => Bytes::copy_from_slice(&message),
        false => message,
    }
}

/// The same for what is kept: it has no position in it.
///
/// # Errors
/// See [`open`].
pub fn open_kept(message: Bytes) -> Result<Opened, NewerEnvelope> {
    if let Some([version, ..]) = message.strip_prefix(NEWER) {
        return Err(NewerEnvelope(*version));
    }
    if let Some(opened) = unwrap(message.clone()) {
        return Ok(opened);
    }
    let is_text = simdutf8::basic::from_utf8(&message).is_ok();
    let kind = if is_text { Kind::Text } else { Kind::Binary };
    Ok(Opened { position: None, kind, details: None, data: message })
}

/// What an envelope holds; none if the message is none.
fn unwrap(mut message: Bytes) -> Option<Opened> {
    let &[MAGIC, head, flags @ (0 | DETAILS), ..] = &message[..] else { return None };
    let kind = [Kind::Text, Kind::Binary, Kind::Join, Kind::Leave]
        .into_iter()
        .find(|kind| head == VERSION << 4 | kind_byte(*kind))?;
    message.advance(3);
    let details = match flags {
        0 => None,
        _ => Some(details::take(&mut message)?),
    };
    if kind == Kind::Text && simdutf8::basic::from_utf8(&message).is_err() {
        return None;
    }
    Some(Opened { position: None, kind, details, data: message })
}

/// A position as scripts write it, if these bytes are one.
pub fn position(bytes: &[u8]) -> Option<Position> {
    let ([epoch, branch, offset], []) = bytes.as_chunks::<8>() else { return None };
    let epoch = Epoch { id: u64::from_be_bytes(*epoch), branch: u64::from_be_bytes(*branch) };
    Some(Position { offset: u64::from_be_bytes(*offset), epoch })
}

/// The envelope is of a version that a newer node writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its envelope has version {0}, which this node does not know")]
pub struct NewerEnvelope(pub u8);

fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::Text => TEXT,
        Kind::Binary => BINARY,
        Kind::Join => JOIN,
        Kind::Leave => LEAVE,
    }
}

const MAGIC: u8 = 0xFF;
const VERSION: u8 = 1;
const TEXT: u8 = 0;
const BINARY: u8 = 1;
const JOIN: u8 = 2;
const LEAVE: u8 = 3;
/// What the script writes before a position.
const POSITIONED: &[u8] = &[MAGIC, VERSION << 4 | 4, 0];
const MESSAGE_AT: usize = POSITIONED.len() + 24;
const DETAILS: u8 = 0x10;
const NEWER: &[u8] = b"\xFFDun";

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

    use super::{details::tests::some_details, *};

    fn check(message: &[u8], kind: Kind, data: &[u8]) {
        let opened = open(Bytes::copy_from_slice(message)).unwrap();
        assert_eq!((opened.kind, &opened.data[..]), (kind, data), "{message:?}");
    }

    #[test]
    fn raw_payloads_are_text_or_else_bytes() {
        check(b"", Kind::Text, b"");
        check("grüße".as_bytes(), Kind::Text, "grüße".as_bytes());
        check(b"\xFE\xFF", Kind::Binary, b"\xFE\xFF");
        check(b"abc\xFF", Kind::Binary, b"abc\xFF");
    }

    #[test]
    fn envelopes_are_opened() {
        check(b"\xFF\x11\x00", Kind::Binary, b"");
        check(b"\xFF\x11\x00hi", Kind::Binary, b"hi");
        check(b"\xFF\x10\x00hi", Kind::Text, b"hi");
        check(b"\xFF\x12\x00", Kind::Join, b"");
        check(b"\xFF\x13\x00", Kind::Leave, b"");
    }

    #[test]
    fn what_merely_begins_like_an_envelope_is_bytes() {
        for message in [
            &b"\xFF"[..],
            b"\xFF\x11",
            b"\xFF\xD8\xFF\xE0 a JPEG picture",
            b"\xFF\xFEU\0T\0F\0-\x001\x006\0",
            b"\xFF\xFB\x90 an MP3 frame",
            b"\xFF\xFF\xFF\xFF",
            b"\xFF\x10\x00\xFE no text",
            b"\xFF\x11\x01 unknown flags",
            b"\xFF\x11\x10\x05hi",
            b"\xFF\x15\x00 no kind",
            b"\xFF\x14\x00 no position",
            b"\xFF\x21\x00 no version",
            b"\xFFDu",
        ] {
            check(message, Kind::Binary, message);
        }
    }

    #[test]
    fn what_a_newer_node_writes_is_refused() {
        let newer = open(Bytes::from_static(b"\xFFDun\x02 whatever it is"));
        assert_eq!(newer, Err(NewerEnvelope(2)));
        let kept = [POSITIONED, &[0; 24], b"\xFFDun\x03 whatever it is"].concat();
        assert_eq!(open(kept.into()), Err(NewerEnvelope(3)));
    }

    #[test]
    fn raw_publications_are_their_payload() {
        let raw = |channel, kind, data: &[u8]| {
            let data = Bytes::copy_from_slice(data);
            let details = Details { allows_delta: true, ..Details::default() };
            head(&Publication::new(channel, kind, data).with_details(details), Format::Raw)
        };
        let channel = || ChannelName::new("c").unwrap();
        for bare in [&b"hi"[..], b"\x00\xFE", b"\xFF", b"\xFF\xD8\xFF", b"\xFFDu"] {
            assert!(raw(channel(), Kind::Binary, bare).is_empty(), "{bare:?}");
        }
        assert!(raw(channel(), Kind::Text, b"hi").is_empty());
        // What would be taken for an envelope gets one of its own.
        for like_one in [&b"\xFF\x11\x00hi"[..], b"\xFF\x14\x00", b"\xFFDun\x02"] {
            assert!(!raw(channel(), Kind::Binary, like_one).is_empty(), "{like_one:?}");
        }
        assert!(!raw(channel(), Kind::Join, b"").is_empty());
        assert!(!raw(ChannelName::control("all"), Kind::Binary, b"hi").is_empty());
    }

    #[test]
    fn a_position_stands_before_any_message_but_another_position() {
        let position = |n| [0, 0, 0, 0, 0, 0, 0, n];
        let place = [position(7), position(8), position(9)].concat();
        let wrap = |message: &[u8]| Bytes::from([POSITIONED, &place, message].concat());
        let opened = open(wrap("grüße".as_bytes())).unwrap();
        let epoch = Epoch { id: 7, branch: 8 };
        assert_eq!(opened.position, Some(Position { offset: 9, epoch }));
        assert_eq!((opened.kind, &opened.data[..]), (Kind::Text, "grüße".as_bytes()));
        assert_eq!(open(wrap(b"\xFF\x11\x00hi")).unwrap().kind, Kind::Binary);
        assert_eq!(open(wrap(&wrap(b"hi"))).unwrap().kind, Kind::Binary);
    }

    #[test]
    fn what_may_be_kept_holds_no_buffer_of_others() {
        let place = [0; 24];
        let positioned = [POSITIONED, &place, b"kept"].concat();
        let mut detailed = vec![MAGIC, VERSION << 4 | TEXT, DETAILS];
        let details = Details { allows_delta: true, ..Details::default() };
        details::write(&mut detailed, &details);
        detailed.extend_from_slice(b"kept");
        for message in [positioned, detailed] {
            let mut buffer = message.clone();
            buffer.resize(SHARED_BUFFER_BYTES, 0);
            let buffer = Bytes::from(buffer);
            let opened = open(buffer.slice(..message.len())).unwrap();
            assert_eq!(&opened.data[..], b"kept");
            drop(opened.details);
            assert!(buffer.is_unique(), "nothing but the test holds it");
        }
        let large = Bytes::from([POSITIONED, &place, &[b'a'; SHARED_BUFFER_BYTES]].concat());
        let opened = open(large.clone()).unwrap();
        assert_eq!(opened.data.as_ptr(), large[MESSAGE_AT..].as_ptr(), "it fills its buffer");
    }

    fn some_kind() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Text), Just(Kind::Binary), Just(Kind::Join), Just(Kind::Leave)]
    }

    proptest! {
        #[test]
        fn what_is_published_comes_back(
            kind in some_kind(),
            details in some_details(),
            data in prop_oneof![any::<Vec<u8>>(), any::<String>().prop_map(String::into_bytes)],
        ) {
            let is_text = std::str::from_utf8(&data).is_ok();
            let kind = if kind == Kind::Text && !is_text { Kind::Binary } else { kind };
            let data = Bytes::from(data);
            let channel = ChannelName::new("c").unwrap();
            let publication =
                Publication::new(channel, kind, data.clone()).with_details(details.clone());
            let head = head(&publication, Format::Enveloped);
            let opened = open(Bytes::from([&head, &data[..]].concat())).unwrap();
            assert_eq!((opened.kind, opened.data), (kind, data));
            assert_eq!(opened.details.unwrap_or_default(), details);
        }

        #[test]
        fn any_bytes_are_opened(
            head in prop::collection::vec(any::<u8>(), 0..64),
            is_envelope: bool,
        ) {
            let start: &[u8] = if is_envelope { &[MAGIC, 0x10, DETAILS] } else { &[] };
            let message = Bytes::from([start, &head].concat());
            assert!(open(message.clone()).is_ok() || message.starts_with(NEWER));
        }
    }
}
