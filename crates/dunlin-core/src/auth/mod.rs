//! Who a client is and what it may join, by tokens (JWT, RFC 7519) that the application signed.
//! Keys, claims and revocations; the time is an argument and key sets come as bytes.

pub mod claims;

pub mod keyring;

pub mod revocation;

pub mod signing;

mod algorithm;
mod jwks;
mod key;
mod written;

/// The year 5138 in unix seconds, which nobody means; in milliseconds, 1973.
pub const SECONDS_END: u64 = 100_000_000_000;

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Largest key set (JWKS), in bytes.
pub const KEY_SET_BYTES_MAX: usize = 128 * 1024;

/// Longest name of a key (`kid`), in bytes.
pub const KID_BYTES_MAX: usize = 64;

/// Longest `sub` and `jti`, in bytes: they stay in tables for as long as a client or a revocation.
pub const ID_BYTES_MAX: usize = 255;

/// Most arrays and objects within each other, in every JSON text of a token.
pub const JSON_DEPTH_MAX: usize = 16;

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none of ours. The text is for the log: it helps whoever signs, and whoever forges.
    #[error("invalid token: {0}")]
    Invalid(&'static str),
    /// No key verifies it and the one that it names is unknown; a newer key set may hold it.
    #[error("the token names an unknown key")]
    UnknownKey,
    /// Its time is over; everything else about it is right.
    #[error("the token has expired")]
    Expired,
    /// Its time (`nbf`) has not come; everything else about it is right.
    #[error("the token is not good yet: its nbf is ahead by more than the leeway")]
    NotYet,
    /// It has more than [`TOKEN_BYTES_MAX`] bytes.
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes")]
    TooLarge,
    /// It was not looked at: too many that came from there were none.
    #[error("too many bad tokens came from its address")]
    NotChecked,
}

impl TokenError {
    /// A subscription token where a connection token is wanted.
    pub const OF_A_SUBSCRIPTION: Self = Self::Invalid("it is a subscription token");
}
