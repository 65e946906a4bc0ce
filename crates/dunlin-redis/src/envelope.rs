//! How a publication's payload looks in Redis.
//!
//! Text travels raw, so that `redis-cli` and any other program can read and write it. Bytes travel
//! behind three bytes: the magic `FF`, which can start no UTF-8 text; a byte whose high half is the
//! envelope's version and whose low half is the kind of payload; a byte of flags. A reader may
//! ignore the flags of the low half; one of the high half that it does not know means that it would
//! misread the payload. What starts with no magic is raw: text if it is UTF-8, else bytes.

use bytes::{Buf, Bytes};
use dunlin_core::publication::Kind;

/// What to write before a payload of this kind.
pub fn prelude(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Text | Kind::Join | Kind::Leave => b"",
        Kind::Binary => &[MAGIC, VERSION << 4 | BINARY, 0],
    }
}

/// Tells what a payload from Redis is and takes the envelope off.
///
/// # Errors
/// Of payloads that start with the magic only: they are skipped and counted.
pub fn open(mut payload: Bytes) -> Result<(Kind, Bytes), EnvelopeError> {
    if payload.first() != Some(&MAGIC) {
        let is_text = simdutf8::basic::from_utf8(&payload).is_ok();
        return Ok((if is_text { Kind::Text } else { Kind::Binary }, payload));
    }
    let [_, head, flags, ..] = payload[..] else { return Err(EnvelopeError::Truncated) };
    if head >> 4 != VERSION {
        return Err(EnvelopeError::Version(head >> 4));
    }
    if flags & MUST_UNDERSTAND != 0 {
        return Err(EnvelopeError::Flags(flags));
    }
    payload.advance(3);
    match head & 0x0F {
        BINARY => Ok((Kind::Binary, payload)),
        TEXT if simdutf8::basic::from_utf8(&payload).is_ok() => Ok((Kind::Text, payload)),
        TEXT => Err(EnvelopeError::NotUtf8),
        kind => Err(EnvelopeError::Kind(kind)),
    }
}

/// Why an envelope is not for us: a newer node's, or a foreign payload that happens to start with
/// the magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is shorter than the shortest envelope.
    #[error("envelope is truncated")]
    Truncated,
    /// It has another version.
    #[error("envelope has unknown version {0}")]
    Version(u8),
    /// It has flags that must be understood and are not.
    #[error("envelope has unknown flags 0x{0:02x}")]
    Flags(u8),
    /// It has an unknown kind of payload.
    #[error("envelope has unknown kind {0}")]
    Kind(u8),
    /// Its payload calls itself text and is none.
    #[error("envelope holds text that is not utf-8")]
    NotUtf8,
}

const MAGIC: u8 = 0xFF;
const VERSION: u8 = 1;
const TEXT: u8 = 0;
const BINARY: u8 = 1;
const MUST_UNDERSTAND: u8 = 0xF0;

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn check(payload: &[u8], expected: Result<(Kind, &'static [u8]), EnvelopeError>) {
        let opened = open(Bytes::copy_from_slice(payload));
        assert_eq!(opened, expected.map(|(kind, data)| (kind, data.into())), "{payload:?}");
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
        check(b"\xFF\x10\x00\xFE", Err(EnvelopeError::NotUtf8));
        check(b"\xFF", Err(EnvelopeError::Truncated));
        check(b"\xFF\x11", Err(EnvelopeError::Truncated));
        check(b"\xFF\x21\x00hi", Err(EnvelopeError::Version(2)));
        check(b"\xFF\xFF\xFF\xFF", Err(EnvelopeError::Version(15)));
        check(b"\xFF\x11\x10hi", Err(EnvelopeError::Flags(0x10)));
        check(b"\xFF\x12\x00hi", Err(EnvelopeError::Kind(2)));
    }

    proptest! {
        #[test]
        fn what_is_published_comes_back(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let sealed = |kind| Bytes::from([prelude(kind), &data[..]].concat());
            let data = Bytes::from(data.clone());
            assert_eq!(open(sealed(Kind::Binary)), Ok((Kind::Binary, data.clone())));
            if std::str::from_utf8(&data).is_ok() {
                assert_eq!(open(sealed(Kind::Text)), Ok((Kind::Text, data)));
            }
        }
    }
}
