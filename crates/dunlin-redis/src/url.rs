//! Where a Redis server is and how to get in, read from one URL. What is secret stays secret: no
//! `Debug`, `Display` or error of this file shows a password or any unparsed part of the URL.

mod parse;

use std::{fmt, path::PathBuf, str::FromStr};

use self::parse::{parse_cluster, parse_sentinel, parse_tcp, parse_unix};

/// A parsed Redis URL: `redis://[user[:password]@]host[:port][/database]`, the same with
/// `rediss://` for TLS, `redis+unix://[user:password@]/path[?db=database]`,
/// `redis+sentinel://[user:password@]host:port,host:port/service[/database]`, or
/// `redis+cluster://[user:password@]host:port,host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where the server listens.
    pub endpoint: Endpoint,
    /// The ACL user; `None` is Redis's own default user.
    pub user: Option<String>,
    /// The user's password, if one is needed.
    pub password: Option<Secret>,
    /// The database to select. Pub/Sub knows none: channels are told apart by prefix.
    pub database: u32,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// A name or an address; an IPv6 address has no brackets here.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken on it.
        security: Security,
    },
    /// A Unix domain socket.
    Unix {
        /// Its file.
        path: PathBuf,
    },
    /// Where sentinels say that the primary of a service is.
    Sentinel(Sentinels),
    /// Wherever the nodes of a cluster say.
    Cluster(Seeds),
}

/// The sentinels of a service, and how to get in to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinels {
    /// Host and port of each.
    pub addresses: Vec<(String, u16)>,
    /// What they call the servers that they watch.
    pub service: String,
    /// Whether TLS is spoken with them and with the servers.
    pub security: Security,
    /// Their ACL user; `None` is the default user.
    pub user: Option<String>,
    /// Their password, if one is needed.
    pub password: Option<Secret>,
}

/// The nodes of a cluster that are asked first; they name all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds {
    /// Host and port of each.
    pub addresses: Vec<(String, u16)>,
    /// Whether TLS is spoken with all nodes.
    pub security: Security,
}

/// Whether a TCP connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Everything, passwords included, is readable on the way.
    Plain,
    /// TLS, with the server's certificate checked.
    Tls,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What is wrong with a Redis URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It starts with none of the schemes.
    #[error(
        "a redis url starts with redis://, rediss://, redis+unix://, redis+sentinel://, \
         rediss+sentinel://, redis+cluster:// or rediss+cluster://"
    )]
    Scheme,
    /// A sentinel url names no service.
    #[error(
        "a sentinel url names the service behind its sentinels, as in \
         redis+sentinel://one:26379,two:26379/mymaster"
    )]
    Service,
    /// There is no host.
    #[error("the redis url has no host")]
    Host,
    /// There are several hosts where one is wanted.
    #[error(
        "only the url of sentinels or of a cluster has several hosts; several urls need a scheme \
         each"
    )]
    Hosts,
    /// The port is no port.
    #[error(
        "the redis url's port is no number from 1 to 65535 \
         (in a password, each of / ? # @ : % must be percent-encoded)"
    )]
    Port,
    /// The database is no number.
    #[error("the redis url's database is no number from 0 to 4294967295")]
    Database,
    /// A cluster url names another database than 0.
    #[error(
        "a cluster has database 0 alone: leave the database out of the redis url, and tell fleets \
         apart by redis.channel_prefix"
    )]
    ClusterDatabase,
    /// A `%` is not followed by two hexadecimal digits, or what it encodes is not UTF-8.
    #[error("the redis url has a malformed percent-encoding")]
    Encoding,
    /// A user is named without a password.
    #[error("the redis url names a user without a password")]
    Password,
    /// The path of a Unix socket is not absolute.
    #[error("the redis url's socket path must be absolute, as in redis+unix:///run/redis.sock")]
    Path,
    /// There is a query or a fragment that means nothing here.
    #[error("the redis url has a query or fragment that is not understood")]
    Query,
}

impl FromStr for RedisUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if let Some(rest) = text.strip_prefix("redis://") {
            parse_tcp(rest, Security::Plain)
        } else if let Some(rest) = text.strip_prefix("rediss://") {
            parse_tcp(rest, Security::Tls)
        } else if let Some(rest) = text.strip_prefix("redis+unix://") {
            parse_unix(rest)
        } else if let Some(rest) = text.strip_prefix("redis+sentinel://") {
            parse_sentinel(rest, Security::Plain)
        } else if let Some(rest) = text.strip_prefix("rediss+sentinel://") {
            parse_sentinel(rest, Security::Tls)
        } else if let Some(rest) = text.strip_prefix("redis+cluster://") {
            parse_cluster(rest, Security::Plain)
        } else if let Some(rest) = text.strip_prefix("rediss+cluster://") {
            parse_cluster(rest, Security::Tls)
        } else {
            Err(UrlError::Scheme)
        }
    }
}

/// The address alone: it may be logged.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port, security } => {
                write!(f, "{}://{}", security.scheme(), Address(host, *port))
            }
            Endpoint::Unix { path } => write!(f, "redis+unix://{}", path.display()),
            Endpoint::Sentinel(sentinels) => sentinels.fmt(f),
            Endpoint::Cluster(seeds) => seeds.fmt(f),
        }
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+sentinel://", self.security.scheme())?;
        write_addresses(f, &self.addresses)?;
        write!(f, "/{}", self.service)
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+cluster://", self.security.scheme())?;
        write_addresses(f, &self.addresses)
    }
}

fn write_addresses(f: &mut fmt::Formatter<'_>, addresses: &[(String, u16)]) -> fmt::Result {
    for (number, (host, port)) in addresses.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(f, "{comma}{}", Address(host, *port))?;
    }
    Ok(())
}

/// Host and port as they stand in a URL.
pub(crate) struct Address<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        let [open, close] = if host.contains(':') { ["[", "]"] } else { [""; 2] };
        write!(f, "{open}{host}{close}:{port}")
    }
}

impl Security {
    fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "redis",
            Self::Tls => "rediss",
        }
    }
}

#[cfg(test)]
mod tests;
