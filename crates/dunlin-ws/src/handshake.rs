//! The opening handshake (RFC 6455, 4.2): judges the head of an HTTP request, makes the answer's
//! values. Reads headers from any HTTP library; the answer itself is the caller's to write.

use std::net::Ipv6Addr;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use thiserror::Error;

use crate::{deflate::Compression, offer};

/// The head of an HTTP request.
#[derive(Debug, Clone)]
pub struct Request<'a, Headers> {
    /// The method as it was sent: methods are case-sensitive.
    pub method: &'a str,
    /// Whether the request is HTTP/1.1.
    pub http_11: bool,
    /// All headers as names and values; the names in any case.
    pub headers: Headers,
}

/// The values of the answer `101 Switching Protocols`, beside `Upgrade: websocket` and
/// `Connection: Upgrade`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The value of `Sec-WebSocket-Accept`.
    pub key: String,
    /// The value of `Sec-WebSocket-Extensions`, if there is to be one.
    pub extensions: Option<&'static str>,
    /// What was negotiated, for the connection's [`Decoder`](crate::Decoder).
    pub compression: Compression,
}

/// The request is not a good handshake. The text says why, for the body of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The method is not GET.
    #[error("a websocket handshake is a GET request")]
    Method,
    /// The request is not HTTP/1.1.
    #[error("a websocket handshake needs http/1.1")]
    HttpVersion,
    /// The request has a body.
    #[error("a websocket handshake has no body")]
    Body,
    /// `Host` is missing, repeated, or no host and port.
    #[error("a websocket handshake has one Host header, a host and maybe a port")]
    Host,
    /// `Connection` does not contain `Upgrade`.
    #[error("the Connection header does not contain Upgrade")]
    Connection,
    /// `Upgrade` does not contain `websocket`.
    #[error("the Upgrade header does not contain websocket")]
    Upgrade,
    /// `Sec-WebSocket-Version` is missing, repeated or another than 13.
    #[error("the Sec-WebSocket-Version is not 13")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes in base64.
    #[error("the Sec-WebSocket-Key is not 16 bytes in base64")]
    Key,
    /// `Sec-WebSocket-Extensions` does not follow its grammar, or is too long a list.
    #[error("the Sec-WebSocket-Extensions cannot be read")]
    Extensions,
}

impl Refusal {
    /// The HTTP status of the answer: 405, 426 or 400.
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Version => 426,
            Self::HttpVersion
            | Self::Body
            | Self::Host
            | Self::Connection
            | Self::Upgrade
            | Self::Key
            | Self::Extensions => 400,
        }
    }

    /// A header, as name and value, that the answer must have.
    pub const fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Method => Some(("allow", "GET")),
            Self::Version => Some(("sec-websocket-version", "13")),
            _ => None,
        }
    }
}

/// Judges a handshake. `offered` is what the server is willing to do: with [`Compression::Off`]
/// the client's offers are declined, otherwise one of them is taken if it can be.
///
/// # Errors
/// Says what is wrong with the request, see [`Refusal`].
pub fn accept<'a, Headers>(
    request: Request<'_, Headers>,
    offered: Compression,
) -> Result<Accept, Refusal>
where
    Headers: Iterator<Item = (&'a str, &'a [u8])> + Clone,
{
    let Request { method, http_11, headers } = request;
    let all = |name: &'static str| {
        headers.clone().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let only = |name| one(all(name));
    if method != "GET" {
        return Err(Refusal::Method);
    }
    if !http_11 {
        return Err(Refusal::HttpVersion);
    }
    if all("transfer-encoding").next().is_some() || all("content-length").any(|v| v != b"0") {
        return Err(Refusal::Body);
    }
    only("host").filter(|host| is_host(host)).ok_or(Refusal::Host)?;
    if !all("connection").any(|value| lists(value, "upgrade")) {
        return Err(Refusal::Connection);
    }
    if !all("upgrade").any(|value| lists(value, "websocket")) {
        return Err(Refusal::Upgrade);
    }
    only("sec-websocket-version").filter(|version| *version == b"13").ok_or(Refusal::Version)?;
    let key = only("sec-websocket-key").and_then(accept_key).ok_or(Refusal::Key)?;
    let chosen = offer::choose(all("sec-websocket-extensions")).map_err(|_| Refusal::Extensions)?;
    let chosen = chosen.filter(|_| offered != Compression::Off);
    Ok(Accept {
        key,
        extensions: chosen.map(|answer| answer.header),
        compression: chosen.map(|answer| answer.compression).unwrap_or_default(),
    })
}

/// The value, without white space around it, of a header that must not be repeated.
fn one<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let value = values.next()?;
    values.next().is_none().then_some(value.trim_ascii())
}

/// Whether a value is a host and maybe a port (RFC 9110, 7.2; RFC 3986, 3.2.2).
fn is_host(value: &[u8]) -> bool {
    let Ok(value) = str::from_utf8(value) else { return false };
    let (is_host, port) = match value.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            // With a zone, some clients send what was in their URL.
            Some((address, port)) => {
                let (address, zone) = address.split_once("%25").unwrap_or((address, "-"));
                (address.parse::<Ipv6Addr>().is_ok() && is_name(zone), port)
            }
            None => return false,
        },
        None => {
            let (name, port) = value.split_at(value.find(':').unwrap_or(value.len()));
            (is_name(name), port)
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_name(name: &str) -> bool {
    let mut parts = name.split('%');
    let is_plain = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte))
    };
    let first = parts.next().unwrap_or_default();
    let is_encoded =
        |part: &str| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    !name.is_empty() && is_plain(first) && parts.all(|part| is_encoded(part) && is_plain(part))
}

/// Whether a list of tokens contains `token`, in any case.
fn lists(value: &[u8], token: &str) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// What proves to the client that its key was read; `None` if it is not 16 bytes in base64.
fn accept_key(key: &[u8]) -> Option<String> {
    let mut nonce = [0; 18];
    if STANDARD.decode_slice(key, &mut nonce) != Ok(16) {
        return None;
    }
    let proof = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    Some(STANDARD.encode(proof))
}

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("Host", "server.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];

    fn judge(method: &str, http_11: bool, headers: &[(&str, &str)]) -> Result<Accept, Refusal> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        accept(Request { method, http_11, headers }, Compression::On)
    }

    /// Judges the good request with `name` replaced by `values`.
    fn judge_with(name: &str, values: &[&str]) -> Result<Accept, Refusal> {
        let mut headers: Vec<_> =
            GOOD.into_iter().filter(|(n, _)| !n.eq_ignore_ascii_case(name)).collect();
        headers.extend(values.iter().map(|value| (name, *value)));
        judge("GET", true, &headers)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let expected = Accept {
            key: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(),
            extensions: None,
            compression: Compression::Off,
        };
        assert_eq!(judge("GET", true, &GOOD), Ok(expected));
    }

    #[test]
    fn refusals() {
        let check = |name, values: &[&str], refusal| {
            assert_eq!(judge_with(name, values), Err(refusal), "{name}: {values:?}");
        };
        assert_eq!(judge("POST", true, &GOOD), Err(Refusal::Method));
        assert_eq!(judge("get", true, &GOOD), Err(Refusal::Method));
        assert_eq!(judge("GET", false, &GOOD), Err(Refusal::HttpVersion));
        check("content-length", &["1"], Refusal::Body);
        check("Content-Length", &["0", "5"], Refusal::Body);
        check("Transfer-Encoding", &["chunked"], Refusal::Body);
        check("host", &[], Refusal::Host);
        check("host", &[" "], Refusal::Host);
        check("host", &["a", "a"], Refusal::Host);
        for host in [
            "a b", "a/b", "u@a", ":80", "a:b", "a:1:2", "[::1", "::1", "[::g]", "[]", "[::1]x",
            "é", "a%2", "a%zz", "a\0",
        ] {
            check("host", &[host], Refusal::Host);
        }
        check("connection", &[], Refusal::Connection);
        check("connection", &["keep-alive", "upgrades"], Refusal::Connection);
        check("upgrade", &[], Refusal::Upgrade);
        check("upgrade", &["h2c"], Refusal::Upgrade);
        check("sec-websocket-version", &[], Refusal::Version);
        check("sec-websocket-version", &["8"], Refusal::Version);
        check("sec-websocket-version", &["13", "13"], Refusal::Version);
        check("sec-websocket-key", &[], Refusal::Key);
        check("sec-websocket-key", &["SGVsbG8sIHdvcmxkIQ=="], Refusal::Key);
        check("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"], Refusal::Key);
        check("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZSEh"], Refusal::Key);
        check("sec-websocket-key", &["dGhlIHNhbXBsZSBub25j*Q=="], Refusal::Key);
        check("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZR=="], Refusal::Key);
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        check("sec-websocket-key", &[key, key], Refusal::Key);
        check("sec-websocket-extensions", &["a;"], Refusal::Extensions);
    }

    #[test]
    fn statuses_and_their_headers() {
        let check = |refusal: Refusal, status, header| {
            assert_eq!((refusal.status(), refusal.header()), (status, header));
        };
        check(Refusal::Method, 405, Some(("allow", "GET")));
        check(Refusal::Version, 426, Some(("sec-websocket-version", "13")));
        check(Refusal::Key, 400, None);
    }

    #[test]
    fn variations_that_are_good() {
        let check = |name, values: &[&str]| {
            assert!(judge_with(name, values).is_ok(), "{name}: {values:?}");
        };
        check("Content-Length", &["0"]);
        for host in [
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:443",
            "a_b.example.",
            "a%20b",
            "a:",
            "[fe80::1%25a]",
        ] {
            check("host", &[host]);
        }
        check("CONNECTION", &["keep-alive, uPGRADE"]);
        check("connection", &["keep-alive", "x", "Upgrade"]);
        check("upgrade", &["h2c , WebSocket"]);
        check("sec-websocket-extensions", &["unknown; x=y"]);
    }

    #[test]
    fn compression_only_if_both_sides_want_it() {
        let value: &[u8] = b"permessage-deflate";
        let headers = GOOD.map(|(name, value)| (name, value.as_bytes()));
        let headers = headers.into_iter().chain([("sec-websocket-extensions", value)]);
        let judge = |offered| {
            let request = Request { method: "GET", http_11: true, headers: headers.clone() };
            accept(request, offered).map(|accept| (accept.compression, accept.extensions.is_some()))
        };
        assert_eq!(judge(Compression::On), Ok((Compression::On, true)));
        assert_eq!(judge(Compression::Off), Ok((Compression::Off, false)));
    }
}
