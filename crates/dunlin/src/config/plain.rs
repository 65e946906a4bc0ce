//! The plain dialect.

use serde::{Deserialize, Serialize};

/// `[plain]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainConfig {
    /// The channel that `GET /ws` joins; checked to be a channel's name.
    pub default_channel: String,
    /// What a client is told that offers subprotocols.
    pub subprotocols: PlainSubprotocols,
    /// By which codes a client is told why it is closed.
    pub close_codes: PlainCloseCodes,
}

/// What clients of the plain dialect are told that offer subprotocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainSubprotocols {
    /// The first one is agreed to, whatever it is: many clients refuse a connection without.
    Echo,
    /// None is.
    None,
}

/// By which codes clients of the plain dialect are told why they are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlainCloseCodes {
    /// All that are registered.
    Registered,
    /// Those of RFC 6455 alone.
    Rfc6455,
}
