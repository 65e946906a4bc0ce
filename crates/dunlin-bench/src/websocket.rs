//! As much of RFC 6455 as a load generator and the floor need: accept key, frame headers, masks.
//! Apart from dunlin-ws on purpose: a yardstick must not share the measured code's mistakes.

use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};

/// The `Sec-WebSocket-Accept` that answers `key` (section 4.2.2).
pub(crate) fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    BASE64_STANDARD.encode(digest)
}

/// What stands before a frame's payload (section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The first byte without the FIN bit; reserved bits make it an opcode nobody knows.
    pub(crate) opcode: u8,
    /// The last (or only) frame of its message.
    pub(crate) last: bool,
    /// Clients mask, servers do not.
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes of the header itself.
    pub(crate) header_bytes: usize,
    /// Bytes of the payload.
    pub(crate) payload_bytes: usize,
}

impl FrameHeader {
    /// Reads the header at the start of `bytes`; `None` when it has not all arrived.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (payload_bytes, length_bytes) = match second & 0x7F {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
            127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 8),
            short => (usize::from(short), 0),
        };
        let (mask, mask_bytes) = match second & 0x80 {
            0 => (None, 0),
            _ => (Some(*rest.get(length_bytes..)?.first_chunk()?), 4),
        };
        Some(Self {
            opcode: first & 0x7F,
            last: first & 0x80 != 0,
            mask,
            header_bytes: 2 + length_bytes + mask_bytes,
            payload_bytes,
        })
    }

    /// Bytes of the whole frame.
    #[inline]
    pub(crate) fn frame_bytes(&self) -> usize {
        self.header_bytes.saturating_add(self.payload_bytes)
    }
}

/// Appends the header of an unmasked single-frame message.
pub(crate) fn put_header(out: &mut Vec<u8>, opcode: u8, payload_bytes: usize) {
    put_lengths(out, opcode, payload_bytes, 0);
}

/// Appends a masked single-frame message, as a client must send it.
pub(crate) fn put_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    put_masked_header(out, opcode, payload.len(), mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Appends what stands before such a message.
pub(crate) fn put_masked_header(
    out: &mut Vec<u8>,
    opcode: u8,
    payload_bytes: usize,
    mask: [u8; 4],
) {
    put_lengths(out, opcode, payload_bytes, 0x80);
    out.extend_from_slice(&mask);
}

/// Masks or unmasks (the same thing) a payload from its first byte on.
#[inline]
pub(crate) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

fn put_lengths(out: &mut Vec<u8>, opcode: u8, payload_bytes: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
    match payload_bytes {
        0..=125 => out.push(mask_bit | payload_bytes as u8),
        126..=0xFFFF => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_frame_is_read_back_at_every_length_and_never_too_early() {
        for length in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000] {
            let payload = vec![b'x'; length];
            let mut masked = Vec::new();
            put_masked(&mut masked, BINARY, &payload, [1, 2, 3, 4]);
            let header = FrameHeader::read(&masked).unwrap();
            assert_eq!(header.frame_bytes(), masked.len());
            assert_eq!((header.opcode, header.last), (BINARY, true));
            apply_mask(&mut masked[header.header_bytes..], header.mask.unwrap());
            assert_eq!(masked[header.header_bytes..], payload);
            for cut in 0..header.header_bytes {
                assert_eq!(FrameHeader::read(&masked[..cut]), None);
            }

            let mut plain = Vec::new();
            put_header(&mut plain, TEXT, length);
            let header = FrameHeader::read(&plain).unwrap();
            assert_eq!((header.payload_bytes, header.mask), (length, None));
            assert_eq!(header.header_bytes, plain.len());
        }
    }
}
