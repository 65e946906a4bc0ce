//! Close codes (RFC 6455, 7.4) and the payload of a client's close frame.

use std::fmt;

use crate::{decode::Event, error::ProtocolError};

/// A close code that may travel on the wire: 1000-1003, 1007-1014 or 3000-4999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// The other side broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The kind of message is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// A payload is not what its kind promises, for example a text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A rule of this server that has no code of its own was broken.
    pub const POLICY: Self = Self(1008);
    /// A message is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// The server failed.
    pub const INTERNAL: Self = Self(1011);
    /// The server restarts: connect again.
    pub const RESTART: Self = Self(1012);
    /// The server cannot serve this connection now: connect again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code `code`, or `None` if it must not appear in a close frame.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number that travels on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads the payload of a close frame: nothing, or a code and a reason.
pub(crate) fn parse(payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    match payload {
        [] => Ok(Event::Close { code: None, reason: "" }),
        [_] => Err(ProtocolError::CloseTooShort),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let code = CloseCode::new(code).ok_or(ProtocolError::CloseCodeInvalid)?;
            let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::NotUtf8)?;
            Ok(Event::Close { code: Some(code), reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_travel() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|&c| CloseCode::new(c).is_some()).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, expected);
    }

    #[test]
    fn payloads() {
        let check = |payload: &[u8], expected| assert_eq!(parse(payload), expected, "{payload:?}");
        check(b"", Ok(Event::Close { code: None, reason: "" }));
        check(b"\x03", Err(ProtocolError::CloseTooShort));
        check(b"\x03\xe8", Ok(Event::Close { code: Some(CloseCode::NORMAL), reason: "" }));
        check(
            b"\x03\xf5bye \xc3\xa9",
            Ok(Event::Close { code: Some(CloseCode::TRY_AGAIN_LATER), reason: "bye é" }),
        );
        check(b"\x03\xed", Err(ProtocolError::CloseCodeInvalid));
        check(b"\x03\xe8\xc3", Err(ProtocolError::NotUtf8));
    }
}
