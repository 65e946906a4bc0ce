//! Headers of client frames, checked in the order of their bytes: an error shows at the first byte
//! that proves it, so before any payload.

use crate::{
    error::ProtocolError,
    frame::{CONTROL_BYTES_MAX, FIN, MessageKind, Opcode, RSV1},
};

/// The longest header of a client frame: two bytes, a 64-bit length and the mask key.
pub(crate) const HEADER_BYTES_MAX: usize = 14;

const OTHER_RESERVED_BITS: u8 = 0x30;
const MASKED: u8 = 0x80;

/// What the connection allows the next frame to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// A fragmented message is open.
    pub(crate) message_is_open: bool,
    /// Compression is negotiated.
    pub(crate) compression: bool,
}

/// The header of a client frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opcode: Opcode,
    /// The last frame of its message.
    pub(crate) fin: bool,
    /// The first frame of a compressed message.
    pub(crate) compressed: bool,
    /// The length of the payload in bytes.
    pub(crate) length: u64,
    pub(crate) mask: [u8; 4],
    /// The length of the header itself.
    pub(crate) header_bytes: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if it is not whole yet.
    pub(crate) fn parse(bytes: &[u8], expected: Expected) -> Result<Option<Self>, ProtocolError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = check_first(first, expected)?;
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & MASKED == 0 {
            return Err(match opcode {
                Opcode::Close => ProtocolError::CloseNotMasked,
                _ => ProtocolError::NotMasked,
            });
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(ProtocolError::ControlTooLong);
        }
        let Some((length, mask_at)) = parse_length(short, &bytes[2..])? else { return Ok(None) };
        let Some(&mask) = bytes[2 + mask_at..].first_chunk::<4>() else { return Ok(None) };
        Ok(Some(Self {
            opcode,
            fin: first & FIN != 0,
            compressed: first & RSV1 != 0,
            length,
            mask,
            header_bytes: 2 + mask_at + 4,
        }))
    }
}

impl Opcode {
    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    /// The kind of the message that a frame with this opcode starts.
    pub(crate) fn message_kind(self) -> MessageKind {
        if self == Self::Text { MessageKind::Text } else { MessageKind::Binary }
    }
}

/// Checks FIN, the reserved bits and the opcode.
fn check_first(first: u8, expected: Expected) -> Result<Opcode, ProtocolError> {
    let opcode = match first & 0x0F {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xA => Opcode::Pong,
        _ => return Err(ProtocolError::ReservedOpcode),
    };
    let starts_message = matches!(opcode, Opcode::Text | Opcode::Binary);
    let compressed = first & RSV1 != 0;
    if first & OTHER_RESERVED_BITS != 0 || (compressed && !(expected.compression && starts_message))
    {
        return Err(ProtocolError::ReservedBit);
    }
    if opcode.is_control() && first & FIN == 0 {
        return Err(ProtocolError::FragmentedControl);
    }
    if opcode == Opcode::Continuation && !expected.message_is_open {
        return Err(ProtocolError::UnexpectedContinuation);
    }
    if starts_message && expected.message_is_open {
        return Err(ProtocolError::ExpectedContinuation);
    }
    Ok(opcode)
}

/// Reads the length: its value and how many of the bytes after the second belong to it.
fn parse_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    match short {
        126 => {
            let Some(&wire) = bytes.first_chunk::<2>() else { return Ok(None) };
            let length = u16::from_be_bytes(wire).into();
            if length <= 125 {
                return Err(ProtocolError::LengthNotMinimal);
            }
            Ok(Some((length, 2)))
        }
        127 => {
            if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
                return Err(ProtocolError::LengthOutOfRange);
            }
            let Some(&wire) = bytes.first_chunk::<8>() else { return Ok(None) };
            let length = u64::from_be_bytes(wire);
            if length <= 0xFFFF {
                return Err(ProtocolError::LengthNotMinimal);
            }
            Ok(Some((length, 8)))
        }
        short => Ok(Some((short.into(), 0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Expected = Expected { message_is_open: false, compression: false };
    const OPEN: Expected = Expected { message_is_open: true, compression: false };
    const DEFLATE: Expected = Expected { message_is_open: false, compression: true };

    /// Fed byte by byte, the header must fail at byte `at` (counted from 1) and not before.
    fn check_fails(bytes: &[u8], expected: Expected, at: usize, error: ProtocolError) {
        for end in 0..at {
            assert_eq!(Header::parse(&bytes[..end], expected), Ok(None), "{bytes:x?} {end}");
        }
        for end in at..=bytes.len() {
            assert_eq!(Header::parse(&bytes[..end], expected), Err(error), "{bytes:x?} {end}");
        }
    }

    #[test]
    fn errors_show_at_the_first_byte_that_proves_them() {
        use ProtocolError as E;
        check_fails(&[0x83, 0x80], PLAIN, 1, E::ReservedOpcode);
        check_fails(&[0x8B, 0x80], PLAIN, 1, E::ReservedOpcode);
        check_fails(&[0xC1, 0x80], PLAIN, 1, E::ReservedBit);
        check_fails(&[0xA1, 0x80], DEFLATE, 1, E::ReservedBit);
        check_fails(&[0x91, 0x80], DEFLATE, 1, E::ReservedBit);
        check_fails(&[0xC9, 0x80], DEFLATE, 1, E::ReservedBit);
        let open = Expected { message_is_open: true, compression: true };
        check_fails(&[0xC0, 0x80], open, 1, E::ReservedBit);
        check_fails(&[0x09, 0x80], PLAIN, 1, E::FragmentedControl);
        check_fails(&[0x80, 0x80], PLAIN, 1, E::UnexpectedContinuation);
        check_fails(&[0x81, 0x80], OPEN, 1, E::ExpectedContinuation);
        check_fails(&[0x81, 0x05], PLAIN, 2, E::NotMasked);
        check_fails(&[0x88, 0x02, 3, 0xE9], PLAIN, 2, E::CloseNotMasked);
        check_fails(&[0x88, 0x02, 3, 0xE9], OPEN, 2, E::CloseNotMasked);
        check_fails(&[0x89, 0xFE, 0, 126], PLAIN, 2, E::ControlTooLong);
        check_fails(&[0x81, 0xFE, 0, 125, 1, 2], PLAIN, 4, E::LengthNotMinimal);
        check_fails(&[0x81, 0xFF, 0x80, 0, 0], PLAIN, 3, E::LengthOutOfRange);
        check_fails(&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1], PLAIN, 10, E::LengthNotMinimal);
    }

    #[test]
    fn whole_headers() {
        let check = |bytes: &[u8], expected, opcode, fin, compressed, length| {
            let mask = *bytes.last_chunk().expect("at least a mask");
            let header =
                Header { opcode, fin, compressed, length, mask, header_bytes: bytes.len() };
            assert_eq!(Header::parse(bytes, expected), Ok(Some(header)));
            assert_eq!(Header::parse(&bytes[..bytes.len() - 1], expected), Ok(None));
        };
        check(&[0x81, 0x85, 1, 2, 3, 4], PLAIN, Opcode::Text, true, false, 5);
        check(&[0x01, 0x80, 1, 2, 3, 4], PLAIN, Opcode::Text, false, false, 0);
        check(&[0x00, 0x80, 1, 2, 3, 4], OPEN, Opcode::Continuation, false, false, 0);
        check(&[0x42, 0x81, 1, 2, 3, 4], DEFLATE, Opcode::Binary, false, true, 1);
        check(&[0x89, 0xFD, 1, 2, 3, 4], OPEN, Opcode::Ping, true, false, 125);
        check(&[0x82, 0xFE, 0, 126, 1, 2, 3, 4], PLAIN, Opcode::Binary, true, false, 126);
        let long = [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        check(&long, PLAIN, Opcode::Binary, true, false, 65_536);
    }
}
