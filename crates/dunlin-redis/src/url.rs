//! Where a Redis server is and how to get in, read from one URL. What is secret stays secret: no
//! `Debug`, `Display` or error of this file shows a password or any unparsed part of the URL.

use std::{fmt, path::PathBuf, str::FromStr};

/// A parsed Redis URL: `redis://[user[:password]@]host[:port][/database]`, the same with
/// `rediss://` for TLS, or `redis+unix://[user:password@]/path[?db=database]`.
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
    /// It starts with none of the three schemes.
    #[error("a redis url starts with redis://, rediss:// or redis+unix://")]
    Scheme,
    /// There is no host.
    #[error("the redis url has no host")]
    Host,
    /// The port is no port.
    #[error(
        "the redis url's port is no number from 1 to 65535 \
         (in a password, each of / ? # @ : % must be percent-encoded)"
    )]
    Port,
    /// The database is no number.
    #[error("the redis url's database is no number from 0 to 4294967295")]
    Database,
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
                let scheme = if *security == Security::Tls { "rediss" } else { "redis" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
            Endpoint::Unix { path } => write!(f, "redis+unix://{}", path.display()),
        }
    }
}

fn parse_tcp(rest: &str, security: Security) -> Result<RedisUrl, UrlError> {
    if rest.contains(['?', '#']) {
        return Err(UrlError::Query);
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, host_and_port) = split_credentials(authority);
    let (user, password) = parse_credentials(credentials)?;
    let (host, port) = split_port(host_and_port)?;
    let host = decode_percent(host)?;
    if host.is_empty() {
        return Err(UrlError::Host);
    }
    let port = match port {
        None => 6379,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(UrlError::Port)?,
    };
    let database = parse_database(database)?;
    Ok(RedisUrl { endpoint: Endpoint::Tcp { host, port, security }, user, password, database })
}

fn parse_unix(rest: &str) -> Result<RedisUrl, UrlError> {
    let path_at = rest.find('/').ok_or(UrlError::Path)?;
    let (authority, path) = rest.split_at(path_at);
    let (credentials, nothing) = split_credentials(authority);
    if !nothing.is_empty() {
        return Err(UrlError::Path);
    }
    let (user, password) = parse_credentials(credentials)?;
    let (path, database) = match path.split_once('?') {
        None => (path, ""),
        Some((path, query)) => (path, query.strip_prefix("db=").ok_or(UrlError::Query)?),
    };
    let database = parse_database(database)?;
    let path = PathBuf::from(decode_percent(path)?);
    Ok(RedisUrl { endpoint: Endpoint::Unix { path }, user, password, database })
}

/// Splits at the last `@`: a password with an unencoded one is understood as it was meant.
fn split_credentials(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((credentials, rest)) => (Some(credentials), rest),
        None => (None, authority),
    }
}

fn parse_credentials(
    credentials: Option<&str>,
) -> Result<(Option<String>, Option<Secret>), UrlError> {
    let Some(credentials) = credentials else { return Ok((None, None)) };
    let (user, password) = credentials.split_once(':').ok_or(UrlError::Password)?;
    let (user, password) = (decode_percent(user)?, decode_percent(password)?);
    if password.is_empty() && !user.is_empty() {
        return Err(UrlError::Password);
    }
    let user = (!user.is_empty()).then_some(user);
    let password = (!password.is_empty()).then(|| Secret::new(password));
    Ok((user, password))
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(UrlError::Port),
        };
    }
    Ok(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

fn parse_database(text: &str) -> Result<u32, UrlError> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| UrlError::Database) }
}

fn decode_percent(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        rest = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, others @ ..] = rest else { return Err(UrlError::Encoding) };
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(UrlError::Encoding);
        bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = others;
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, security: Security) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port, security }
    }

    fn check(text: &str, endpoint: &Endpoint, access: (Option<&str>, Option<&str>), database: u32) {
        let url: RedisUrl = text.parse().unwrap();
        let password = url.password.as_ref().map(Secret::expose);
        let user = url.user.as_deref();
        assert_eq!((&url.endpoint, (user, password), url.database), (endpoint, access, database));
    }

    #[test]
    fn urls_are_read() {
        let local = tcp("localhost", 6379, Security::Plain);
        check("redis://localhost", &local, (None, None), 0);
        check("redis://localhost/", &local, (None, None), 0);
        check("redis://localhost:6379/3", &local, (None, None), 3);
        check("redis://:p%40ss%2fword@localhost", &local, (None, Some("p@ss/word")), 0);
        check("redis://ann:s:e@cret@localhost", &local, (Some("ann"), Some("s:e@cret")), 0);
        check("redis://:@localhost", &local, (None, None), 0);
        let secure = tcp("::1", 7000, Security::Tls);
        check("rediss://u:p@[::1]:7000/1", &secure, (Some("u"), Some("p")), 1);
        check("redis://[fe80::1]", &tcp("fe80::1", 6379, Security::Plain), (None, None), 0);
        let socket = Endpoint::Unix { path: "/run/redis a.sock".into() };
        check("redis+unix:///run/redis%20a.sock", &socket, (None, None), 0);
        check("redis+unix://u:p@/run/redis%20a.sock?db=2", &socket, (Some("u"), Some("p")), 2);
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("", UrlError::Scheme),
            ("http://localhost", UrlError::Scheme),
            ("redis://", UrlError::Host),
            ("redis://:6379", UrlError::Host),
            ("redis://[::1", UrlError::Host),
            ("redis://[::1]6379", UrlError::Port),
            ("redis://localhost:0", UrlError::Port),
            ("redis://localhost:65536", UrlError::Port),
            ("redis://user:pass/word@localhost", UrlError::Port),
            ("redis://localhost/x", UrlError::Database),
            ("redis://localhost/-1", UrlError::Database),
            ("redis://user@localhost", UrlError::Password),
            ("redis://user:@localhost", UrlError::Password),
            ("redis://:%4@localhost", UrlError::Encoding),
            ("redis://:%zz@localhost", UrlError::Encoding),
            ("redis://:%ff@localhost", UrlError::Encoding),
            ("redis://localhost?x=1", UrlError::Query),
            ("redis+unix://run/redis.sock", UrlError::Path),
            ("redis+unix://", UrlError::Path),
            ("redis+unix:///run/redis.sock?x=1", UrlError::Query),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<RedisUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_as_its_address_alone() {
        for (text, shown) in [
            ("redis://ann:hunter2@db.example/4", "redis://db.example:6379"),
            ("rediss://:hunter2@[::1]:7000", "rediss://[::1]:7000"),
            ("redis+unix://u:hunter2@/run/r.sock", "redis+unix:///run/r.sock"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("hunter2"), "{url:?}");
        }
    }
}
