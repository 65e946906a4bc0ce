//! Encoding: frames of a server, the same bytes for every client, and where such frames end.

use bytes::Bytes;

use crate::close::CloseCode;

/// The longest payload of a control frame.
pub(crate) const CONTROL_BYTES_MAX: usize = 125;
/// The FIN bit: the last (or only) frame of a message.
pub(crate) const FIN: u8 = 0x80;
/// The first reserved bit: the message is compressed (RFC 7692).
pub(crate) const RSV1: u8 = 0x40;

/// Whether a message is text or binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

/// What a frame is (RFC 6455, 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

/// Encodes a message as one frame, in one allocation.
pub fn message_frame(kind: MessageKind, payload: &[u8]) -> Bytes {
    frame(FIN | opcode(kind), payload)
}

/// Encodes a message that a [`Deflater`](crate::Deflater) compressed as one frame, in one
/// allocation. Only for connections whose [`Compression`](crate::Compression) is `On`.
pub fn compressed_message_frame(kind: MessageKind, deflated: &[u8]) -> Bytes {
    frame(FIN | RSV1 | opcode(kind), deflated)
}

/// Encodes a ping; a payload over 125 bytes is cut.
pub fn ping_frame(payload: &[u8]) -> Bytes {
    control_frame(Opcode::Ping, payload)
}

/// Encodes a pong; a payload over 125 bytes is cut.
pub fn pong_frame(payload: &[u8]) -> Bytes {
    control_frame(Opcode::Pong, payload)
}

/// Encodes a close frame; a reason over 123 bytes is cut at the end of a character.
pub fn close_frame(code: CloseCode, reason: &str) -> Bytes {
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.get().to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    control_frame(Opcode::Close, &payload)
}

/// Where the frame that holds the byte at `offset` ends, in a run of whole frames of a server.
///
/// An `offset` between two frames is itself the answer. The answer never exceeds the run's length.
/// Used to cut a backlog behind a frame that is partly written.
pub fn frame_end(run: &[u8], offset: usize) -> usize {
    let mut end = 0;
    while end < offset && end < run.len() {
        end = end.saturating_add(frame_bytes(&run[end..])).min(run.len());
    }
    end
}

/// The length of the server frame at the start of `run`, as its header declares it.
fn frame_bytes(run: &[u8]) -> usize {
    match *run {
        [_, 127, a, b, c, d, e, f, g, h, ..] => {
            let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            usize::try_from(length).unwrap_or(usize::MAX).saturating_add(10)
        }
        [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        [_, length @ ..=125, ..] => 2 + usize::from(length),
        _ => run.len(),
    }
}

fn control_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    frame(FIN | opcode as u8, &payload[..payload.len().min(CONTROL_BYTES_MAX)])
}

fn frame(first: u8, payload: &[u8]) -> Bytes {
    let mut header = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let header = match payload.len() {
        length @ ..=125 => {
            header[1] = length as u8;
            &header[..2]
        }
        length @ ..=0xFFFF => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            &header[..4]
        }
        length => {
            header[1] = 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            &header[..]
        }
    };
    let mut frame = Vec::with_capacity(header.len() + payload.len());
    frame.extend_from_slice(header);
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}

fn opcode(kind: MessageKind) -> u8 {
    match kind {
        MessageKind::Text => Opcode::Text as u8,
        MessageKind::Binary => Opcode::Binary as u8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    #[test]
    fn headers_are_minimal() {
        let check = |length: usize, header: &[u8]| {
            let payload = vec![b'x'; length];
            let frame = message_frame(MessageKind::Binary, &payload);
            assert_eq!(frame, [header, &payload].concat());
        };
        check(0, &[0x82, 0]);
        check(125, &[0x82, 125]);
        check(126, &[0x82, 126, 0, 126]);
        check(65_535, &[0x82, 126, 0xFF, 0xFF]);
        check(65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn kinds_and_bits() {
        let check = |frame: Bytes, expected: &[u8]| assert_eq!(frame, expected);
        check(message_frame(MessageKind::Text, b"hi"), b"\x81\x02hi");
        check(compressed_message_frame(MessageKind::Text, b"z"), b"\xC1\x01z");
        check(compressed_message_frame(MessageKind::Binary, b"z"), b"\xC2\x01z");
        check(ping_frame(b"p"), b"\x89\x01p");
        check(pong_frame(b""), b"\x8A\x00");
        check(close_frame(CloseCode::RESTART, "bye"), b"\x88\x05\x03\xF4bye");
    }

    #[test]
    fn control_payloads_are_cut_at_125_bytes_and_reasons_at_a_character() {
        assert_eq!(ping_frame(&[7; 300]).len(), 2 + 125);
        let frame = close_frame(CloseCode::NORMAL, &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }

    proptest! {
        #[test]
        fn frame_end_finds_the_end_of_the_frame_around_an_offset(
            lengths in proptest::collection::vec(
                prop_oneof![0usize..130, 65_530usize..65_540], 0..6),
            offset: Index,
        ) {
            let mut run = Vec::new();
            let mut ends = vec![0];
            for length in lengths {
                run.extend_from_slice(&message_frame(MessageKind::Text, &vec![b'x'; length]));
                ends.push(run.len());
            }
            let offset = offset.index(run.len() + 1);
            let expected = ends.into_iter().find(|end| *end >= offset);
            prop_assert_eq!(Some(frame_end(&run, offset)), expected);
        }

        #[test]
        fn frame_end_is_total(run: Vec<u8>, offset in 0usize..200) {
            prop_assert!(frame_end(&run, offset) <= run.len());
        }
    }
}
