//! Why a link cannot be made or was lost. The texts complete the sentence "redis at ADDRESS …".

use std::{io, time::Duration};

use super::{reconnect::Failure, resp::RespError};

/// Why there is no link. No text holds a password, not even one that a server repeats.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Nobody answers at the address.
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    /// Connection and greeting took too long.
    #[error("did not answer within {0:?}")]
    Timeout(Duration),
    /// The TLS handshake failed: no TLS there, or a certificate nobody trusts.
    #[error("failed the tls handshake: {0}")]
    Tls(io::Error),
    /// The certificates to trust cannot be used.
    #[error("cannot be trusted: {0}")]
    Certificates(String),
    /// The host is no name that a certificate could be for.
    #[error("has a host name that no certificate can be for")]
    ServerName,
    /// The server knows user and password differently.
    #[error("does not accept the user name or password")]
    WrongPassword,
    /// The server wants a password.
    #[error("wants a password, and the url has none")]
    NoPassword,
    /// The server is older than 7.0.
    #[error("is too old: its version is {0}, and 7.0 is the oldest that will do")]
    TooOld(String),
    /// The server is there and takes no commands yet, in its own words.
    #[error("is not ready: {0}")]
    NotReady(String),
    /// The server refused for another reason, in its own words.
    #[error("refused: {0}")]
    Refused(String),
    /// What answers is no Redis server, or not one that keeps to its protocol.
    #[error("does not speak the redis protocol: {0}")]
    Protocol(String),
    /// The connection broke.
    #[error("broke the connection: {0}")]
    Broken(io::Error),
    /// The server closed the connection.
    #[error("closed the connection")]
    Closed,
    /// Not a byte came, no answer to a ping either.
    #[error("sent nothing for {0:?}")]
    Silent(Duration),
}

impl LinkError {
    /// Whether it may go away by itself, so that waiting at start makes sense.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Timeout(_)
                | Self::NotReady(_)
                | Self::Broken(_)
                | Self::Closed
                | Self::Silent(_)
        )
    }

    /// What it cost to find out.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Unreachable(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                Failure::Instant
            }
            Self::NotReady(_) => Failure::Instant,
            _ => Failure::Costly,
        }
    }
}

/// Whether an error that a server answers tells of its own state and not of the command: it loads
/// its data, runs a script, or is a replica that waits for its master.
pub(crate) fn tells_not_ready(text: &[u8]) -> bool {
    [&b"LOADING "[..], b"BUSY ", b"MASTERDOWN "].iter().any(|code| text.starts_with(code))
}

impl From<RespError> for LinkError {
    fn from(error: RespError) -> Self {
        Self::Protocol(error.to_string())
    }
}
