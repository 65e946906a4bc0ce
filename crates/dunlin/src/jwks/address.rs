//! Addresses that keys may come from.

use std::{fmt, net::IpAddr, str::FromStr};

use hyper::Uri;

/// Where a key set is: https, or http on this machine, since whoever can change what comes from
/// there can sign tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
    host: String,
    is_tls: bool,
}

/// The text is no address that keys may come from. The message states the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected https://host/path, or http:// with localhost or a loopback address")]
pub struct InvalidAddress;

impl Address {
    /// The name or the IP address, without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The port, which is the usual one if none is written.
    pub(super) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// Whether to speak TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The header `Host`.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query.
    pub(super) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let uri: Uri = text.parse().map_err(|_| InvalidAddress)?;
        let authority = uri.authority().ok_or(InvalidAddress)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback => false,
            _ => return Err(InvalidAddress),
        };
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(InvalidAddress);
        }
        Ok(Self { uri, host, is_tls })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.uri, f)
    }
}
