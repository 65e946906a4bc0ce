//! How a publication looks in Redis.
//!
//! Text of which nothing else is known travels raw, so that `redis-cli` and any other program can
//! read and write it. Everything else travels behind three bytes: the magic `FF`, which can start
//! no UTF-8 text; a byte whose high half is the envelope's version and whose low half is the kind;
//! a byte of flags. A reader may ignore the flags of the low half; one of the high half that it
//! does not know means that it would misread the payload. What starts with no magic is raw: text if
//! it is UTF-8, else bytes.
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

mod details;

use std::borrow::Cow;

use bytes::{Buf, Bytes};
use dunlin_core::{
    channel::ChannelName,
    position::{Epoch, Position},
    publication::{Details, Kind, Publication},
};

/// What stands before the payload of a publication.
pub fn head(publication: &Publication) -> Cow<'static, [u8]> {
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

/// Tells what a message from Redis is.
///
/// # Errors
/// Of messages that start with the magic only: they are skipped and counted.
pub fn open(message: Bytes) -> Result<Opened, EnvelopeError> {
    if !message.starts_with(POSITIONED) {
        return open_kept(message);
    }
    let bytes = message.get(POSITIONED.len()..MESSAGE_AT).ok_or(EnvelopeError::Truncated)?;
    let position = position(bytes).ok_or(EnvelopeError::Truncated)?;
    let opened = open_kept(message.slice(MESSAGE_AT..))?;
    Ok(Opened { position: Some(position), ..opened })
}

/// The same for what is kept: it has no position in it.
///
/// # Errors
/// See [`open`].
pub fn open_kept(mut message: Bytes) -> Result<Opened, EnvelopeError> {
    if message.first() != Some(&MAGIC) {
        let is_text = simdutf8::basic::from_utf8(&message).is_ok();
        let kind = if is_text { Kind::Text } else { Kind::Binary };
        return Ok(Opened { position: None, kind, details: None, data: message });
    }
    let [_, head, flags, ..] = message[..] else { return Err(EnvelopeError::Truncated) };
    if head >> 4 != VERSION {
        return Err(EnvelopeError::Version(head >> 4));
    }
    if flags & MUST_UNDERSTAND & !DETAILS != 0 {
        return Err(EnvelopeError::Flags(flags));
    }
    let kind = match head & 0x0F {
        TEXT => Kind::Text,
        BINARY => Kind::Binary,
        JOIN => Kind::Join,
        LEAVE => Kind::Leave,
        kind => return Err(EnvelopeError::Kind(kind)),
    };
    message.advance(3);
    let details = match flags & DETAILS {
        0 => None,
        _ => Some(details::take(&mut message).ok_or(EnvelopeError::Details)?),
    };
    if kind == Kind::Text && simdutf8::basic::from_utf8(&message).is_err() {
        return Err(EnvelopeError::NotUtf8);
    }
    Ok(Opened { position: None, kind, details, data: message })
}

/// A position as scripts write it, if these bytes are one.
pub fn position(bytes: &[u8]) -> Option<Position> {
    let ([epoch, branch, offset], []) = bytes.as_chunks::<8>() else { return None };
    let epoch = Epoch { id: u64::from_be_bytes(*epoch), branch: u64::from_be_bytes(*branch) };
    Some(Position { offset: u64::from_be_bytes(*offset), epoch })
}

/// Why an envelope is not for us: a newer node's, or a foreign message that happens to start with
/// the magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is shorter than what it promises.
    #[error("envelope is truncated")]
    Truncated,
    /// It has another version.
    #[error("envelope has unknown version {0}")]
    Version(u8),
    /// It has flags that must be understood and are not.
    #[error("envelope has unknown flags 0x{0:02x}")]
    Flags(u8),
    /// It has an unknown kind.
    #[error("envelope has unknown kind {0}")]
    Kind(u8),
    /// What is known beside its payload makes no sense.
    #[error("envelope has malformed details")]
    Details,
    /// Its payload calls itself text and is none.
    #[error("envelope holds text that is not utf-8")]
    NotUtf8,
}

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
const MUST_UNDERSTAND: u8 = 0xF0;

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

    use super::{details::tests::some_details, *};

    fn check(message: &[u8], expected: Result<(Kind, &'static [u8]), EnvelopeError>) {
        let opened = open(Bytes::copy_from_slice(message));
        let opened = opened.map(|opened| (opened.kind, opened.data));
        assert_eq!(opened, expected.map(|(kind, data)| (kind, data.into())), "{message:?}");
    }

    #[test]
    fn raw_payloads_are_text_or_else_bytes() {
        check(b"", Ok((Kind::Text, b"")));
        check("grüße".as_bytes(), Ok((Kind::Text, "grüße".as_bytes())));
        check(b"\xFE\xFF", Ok((Kind::Binary, b"\xFE\xFF")));
        check(b"abc\xFF", Ok((Kind::Binary, b"abc\xFF")));
    }

    #[test]
    fn envelopes_are_opened_or_refused() {
        check(b"\xFF\x11\x00", Ok((Kind::Binary, b"")));
        check(b"\xFF\x11\x00hi", Ok((Kind::Binary, b"hi")));
        check(b"\xFF\x11\x0Fhi", Ok((Kind::Binary, b"hi")));
        check(b"\xFF\x10\x00hi", Ok((Kind::Text, b"hi")));
        check(b"\xFF\x12\x00", Ok((Kind::Join, b"")));
        check(b"\xFF\x13\x00", Ok((Kind::Leave, b"")));
        check(b"\xFF\x10\x00\xFE", Err(EnvelopeError::NotUtf8));
        check(b"\xFF", Err(EnvelopeError::Truncated));
        check(b"\xFF\x11", Err(EnvelopeError::Truncated));
        check(b"\xFF\x21\x00hi", Err(EnvelopeError::Version(2)));
        check(b"\xFF\xFF\xFF\xFF", Err(EnvelopeError::Version(15)));
        check(b"\xFF\x11\x20hi", Err(EnvelopeError::Flags(0x20)));
        check(b"\xFF\x11\x10\x05hi", Err(EnvelopeError::Details));
        check(b"\xFF\x15\x00hi", Err(EnvelopeError::Kind(5)));
        check(b"\xFF\x14\x00hi", Err(EnvelopeError::Truncated));
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
        assert_eq!(open(wrap(&wrap(b"hi"))), Err(EnvelopeError::Kind(4)));
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
            let opened = open(Bytes::from([&head(&publication), &data[..]].concat())).unwrap();
            assert_eq!((opened.kind, opened.data), (kind, data));
            assert_eq!(opened.details.unwrap_or_default(), details);
        }

        #[test]
        fn any_bytes_are_opened_or_refused(
            head in prop::collection::vec(any::<u8>(), 0..64),
            is_envelope: bool,
        ) {
            let start: &[u8] = if is_envelope { &[MAGIC, 0x10, DETAILS] } else { &[] };
            let _ = open(Bytes::from([start, &head].concat()));
        }
    }
}
