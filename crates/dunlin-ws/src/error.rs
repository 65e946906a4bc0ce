//! What a client can do wrong once it is connected, and the close code that tells it.

use thiserror::Error;

use crate::close::CloseCode;

/// A client broke the protocol or a limit: close the connection with [`close_code`].
///
/// The text is short and fixed, fit for the reason of a close frame. The decoder that returned it
/// must not be used again.
///
/// [`close_code`]: Self::close_code
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// A frame of the client is not masked (RFC 6455, 5.1).
    #[error("frame is not masked")]
    NotMasked,
    /// A close frame is not masked. Clients send none; proxies do that send their own to both
    /// sides when they leave.
    #[error("close frame is not masked")]
    CloseNotMasked,
    /// A reserved bit is set that no negotiated extension defines, or not on this frame.
    #[error("reserved bit is set")]
    ReservedBit,
    /// The opcode is reserved.
    #[error("opcode is reserved")]
    ReservedOpcode,
    /// A control frame without the FIN bit.
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame with more than 125 bytes of payload.
    #[error("control frame is too long")]
    ControlTooLong,
    /// A length in more bytes than it needs.
    #[error("length is not minimal")]
    LengthNotMinimal,
    /// A 64-bit length with the most significant bit set.
    #[error("length is out of range")]
    LengthOutOfRange,
    /// A continuation frame without a message to continue.
    #[error("nothing to continue")]
    UnexpectedContinuation,
    /// A new message before the fragmented one has ended.
    #[error("message inside a fragmented message")]
    ExpectedContinuation,
    /// A close frame with one byte of payload.
    #[error("close code is cut off")]
    CloseTooShort,
    /// A close code that must not travel on the wire.
    #[error("close code is not allowed")]
    CloseCodeInvalid,
    /// A text message or close reason is not UTF-8.
    #[error("text is not utf-8")]
    NotUtf8,
    /// A compressed payload cannot be decompressed.
    #[error("compressed data is broken")]
    BrokenDeflate,
    /// A message exceeds `Limits::message_bytes`.
    #[error("message is too big")]
    MessageTooBig,
    /// A compressed message exceeds `Limits::inflate_ratio`.
    #[error("message is compressed too much")]
    InflateRatio,
    /// A message exceeds `Limits::message_fragments`.
    #[error("too many fragments")]
    TooManyFragments,
}

impl ProtocolError {
    /// The code to close the connection with: 1002, 1007, 1008 or 1009.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::NotUtf8 | Self::BrokenDeflate => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig | Self::InflateRatio => CloseCode::TOO_BIG,
            Self::TooManyFragments => CloseCode::POLICY,
            Self::NotMasked
            | Self::CloseNotMasked
            | Self::ReservedBit
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::LengthOutOfRange
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::CloseTooShort
            | Self::CloseCodeInvalid => CloseCode::PROTOCOL_ERROR,
        }
    }
}
