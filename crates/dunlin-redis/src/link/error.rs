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
    Tls(String),
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
    /// The server does not know the protocol of Redis 6.0.
    #[error("is too old: {0}, and Redis 7.0 is the oldest that will do")]
    TooOld(&'static str),
    /// The server runs no scripts, or no such ones.
    #[error(
        "runs no scripts as Redis does since 7.0, and nothing goes without (it calls itself \
         version {version}): {complaint}"
    )]
    NoScripts {
        /// In the server's own way of counting.
        version: String,
        /// In its own words.
        complaint: String,
    },
    /// Numbers of 64 bits lose their high half in the server's scripts.
    #[error("is built for 32 bits, so that positions in histories would be wrong")]
    Narrow,
    /// The server has no name by which two of them could be told apart.
    #[error("does not say which server it is (run_id in INFO server), as safe histories need: {0}")]
    Nameless(String),
    /// The server has a part of the channels only.
    #[error(
        "is a node of a cluster, and not one server for all channels, as this address promises: \
         a cluster is redis+cluster://HOST:PORT,HOST:PORT (rediss+cluster:// with tls)"
    )]
    ClusterNode,
    /// The server has all channels, and no others beside it.
    #[error(
        "is not a node of a cluster, as this address promises: a server alone is \
         redis://HOST:PORT (rediss:// with tls), and cluster-enabled makes it a node"
    )]
    NoClusterNode,
    /// The server is there and takes no commands yet, in its own words.
    #[error("is not ready: {0}")]
    NotReady(String),
    /// No sentinel says where the primary is.
    #[error("has no primary: {0}")]
    NoPrimary(String),
    /// The server follows another one, and takes no publishes.
    #[error("is a replica: its primary is wanted")]
    Replica,
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
    /// Another link of the lane has found another server at the address.
    #[error("is another server now")]
    Elsewhere,
    /// It is not the one that the other nodes are at.
    #[error(
        "is another server than before, and {missing} of the nodes that were there are not at this \
         one: does its address lead all nodes to the same server?"
    )]
    Alone {
        /// How many of them.
        missing: u64,
    },
    /// Other nodes number the servers differently.
    #[error(
        "is server {theirs} for other nodes and {ours} for this one: their lists of servers differ"
    )]
    Misplaced {
        /// Which of how many, as they see it.
        theirs: String,
        /// As this node sees it.
        ours: String,
    },
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
                | Self::Replica
                | Self::NoPrimary(_)
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
            Self::NotReady(_) | Self::Replica | Self::Elsewhere | Self::Alone { .. } => {
                Failure::Instant
            }
            _ => Failure::Costly,
        }
    }
}

/// Whether an error that a server answers tells of its own state and not of the command: it loads
/// its data, runs a script, is a replica that waits for its master, or has as many clients as it
/// takes, for which it has no code of its own.
pub(crate) fn tells_not_ready(text: &[u8]) -> bool {
    [&b"LOADING "[..], b"BUSY ", b"MASTERDOWN ", b"ERR max number of clients"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Whether an error that a server answers tells that it is a primary no more.
pub(crate) fn tells_demoted(text: &[u8]) -> bool {
    text.starts_with(b"READONLY ")
}

/// Whether an error that a server answers tells that another one of its cluster has what was asked
/// for, or that nobody has it now. Its first word says so; the others differ from server to server.
pub(crate) fn tells_elsewhere(text: &[u8]) -> bool {
    [&b"MOVED "[..], b"ASK ", b"TRYAGAIN ", b"CLUSTERDOWN "]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Whether it tells that the keys are on their way from one server to another.
pub(crate) fn tells_half_moved(text: &[u8]) -> bool {
    text.starts_with(b"ASK ") || text.starts_with(b"TRYAGAIN ")
}

impl From<RespError> for LinkError {
    fn from(error: RespError) -> Self {
        Self::Protocol(error.to_string())
    }
}
