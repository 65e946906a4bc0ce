//! Which pages may connect: the header `Origin`, which pages cannot change, against a list.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use hyper::{HeaderMap, header};

use crate::config::Mode;

/// Origins that are allowed: one, or those of all subdomains of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    origin: Origin,
    /// Whether the host has one more label in front, whichever it is.
    has_wildcard: bool,
}

/// Where a page comes from. Lower case, and the port is there wherever the scheme has a usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// The text is no pattern. The message states the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an origin such as https://example.com, https://*.example.com or \
     http://localhost:3000, without a path"
)]
pub struct InvalidOrigin;

/// Which pages may connect.
#[derive(Clone, Debug)]
pub(crate) enum Pages {
    /// All.
    Any,
    /// Those of the host that they connect to.
    SameHost,
    /// Those of these origins.
    Of(Vec<OriginPattern>),
}

impl Pages {
    /// Those of `patterns`; without any, whatever is usual in this mode.
    pub(crate) fn new(patterns: &[OriginPattern], mode: Mode) -> Self {
        match (patterns, mode) {
            ([], Mode::Development) => Self::Any,
            ([], Mode::Production) => Self::SameHost,
            (patterns, _) => Self::Of(patterns.to_vec()),
        }
    }

    /// Whether whoever sent these headers may connect. So may whoever is no browser, which shows by
    /// the lack of the header. `null`, which stands for pages from nowhere in particular, is no
    /// origin.
    pub(super) fn may_connect(&self, headers: &HeaderMap) -> bool {
        if matches!(self, Self::Any) {
            return true;
        }
        let mut values = headers.get_all(header::ORIGIN).iter();
        match (values.next(), values.next()) {
            (None, _) => true,
            (Some(value), None) => {
                let origin = value.to_str().ok().and_then(|text| text.parse().ok());
                origin.is_some_and(|origin| self.have(&origin, headers))
            }
            // Nobody says which of them is meant.
            (Some(_), Some(_)) => false,
        }
    }

    fn have(&self, origin: &Origin, headers: &HeaderMap) -> bool {
        match self {
            Self::Any => true,
            Self::Of(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
            // The scheme is not compared: TLS may have ended before.
            Self::SameHost => {
                let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
                let here = host.and_then(|host| Origin::from_parts(&origin.scheme, host));
                here.is_some_and(|here| here == *origin)
            }
        }
    }
}

impl OriginPattern {
    /// Whether it is the pages of a whole top-level domain.
    pub(crate) fn is_of_all(&self) -> bool {
        self.has_wildcard && !self.origin.host.contains('.')
    }

    fn matches(&self, origin: &Origin) -> bool {
        let Origin { scheme, host, port } = &self.origin;
        let host_matches = match self.has_wildcard {
            true => origin.host.split_once('.').is_some_and(|(label, rest)| {
                // An empty label would be no subdomain.
                !label.is_empty() && rest == host
            }),
            false => origin.host == *host,
        };
        host_matches && origin.scheme == *scheme && origin.port == *port
    }
}

impl FromStr for OriginPattern {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin)?;
        let (has_wildcard, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let origin = Origin::from_parts(scheme, rest).ok_or(InvalidOrigin)?;
        Ok(Self { origin, has_wildcard })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { scheme, host, port } = &self.origin;
        write!(f, "{scheme}://{}{host}", if self.has_wildcard { "*." } else { "" })?;
        match port {
            Some(port) if usual_port(scheme) != Some(*port) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin)?;
        Self::from_parts(scheme, rest).ok_or(InvalidOrigin)
    }
}

impl Origin {
    /// What stands before and behind the `://`.
    fn from_parts(scheme: &str, rest: &str) -> Option<Self> {
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let scheme = is_scheme.then(|| scheme.to_ascii_lowercase())?;
        // The port is behind the brackets of an IPv6 address.
        let end = rest.rfind(']').unwrap_or(0);
        let (host, port) = match rest[end..].rfind(':') {
            Some(colon) => (&rest[..end + colon], Some(port(&rest[end + colon + 1..])?)),
            None => (rest, usual_port(&scheme)),
        };
        Some(Self { scheme, host: host_name(host)?, port })
    }
}

/// A name or an address, as it is compared.
fn host_name(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let is_name =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    is_name.then(|| text.to_ascii_lowercase())
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(pattern: &str, origins: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        Pages::Of(vec![pattern.parse().unwrap()]).may_connect(&headers)
    }

    #[test]
    fn pages_of_the_same_host_are_those_with_the_same_port_too() {
        for (host, origin, expected) in [
            ("example.com", "https://example.com", true),
            ("example.com", "http://example.com", true),
            ("example.com:443", "https://example.com", true),
            ("Example.com:8443", "https://example.com:8443", true),
            ("example.com:8443", "https://example.com", false),
            ("example.com", "https://www.example.com", false),
            ("example.com", "https://example.com.evil.test", false),
            ("[2001:DB8::1]:80", "http://[2001:db8::1]", true),
            ("example.com", "null", false),
            ("", "https://example.com", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(header::ORIGIN, origin.parse().unwrap());
            headers.append(header::HOST, host.parse().unwrap());
            assert_eq!(Pages::SameHost.may_connect(&headers), expected, "{host} {origin}");
            headers.remove(header::ORIGIN);
            assert!(Pages::SameHost.may_connect(&headers), "no page");
        }
    }

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        for (pattern, origin, expected) in [
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "https://EXAMPLE.com", true),
            ("HTTPS://Example.COM:443", "https://example.com", true),
            ("https://example.com", "https://example.com:443", true),
            ("https://example.com", "http://example.com", false),
            ("https://example.com", "https://example.com:8443", false),
            ("https://example.com:8443", "https://example.com:8443", true),
            ("http://localhost:3000", "http://localhost:3000", true),
            ("http://localhost", "http://localhost:80", true),
            ("https://example.com", "https://www.example.com", false),
            ("https://example.com", "https://evil-example.com", false),
            ("https://example.com", "https://example.com.evil.org", false),
            ("https://example.com", "https://example.com.", false),
            ("https://example.com", "https://example.com/", false),
            ("https://example.com", "https://user@example.com", false),
            ("https://example.com", "https://example.com https://evil.org", false),
            ("https://example.com", "https://example.com:+443", false),
            ("https://example.com", "https://example.com:", false),
            ("https://example.com", "https://", false),
            ("https://example.com", "", false),
            ("https://example.com", "null", false),
            ("http://[::1]:3000", "http://[0:0::1]:3000", true),
            ("http://[::1]", "http://[::1]:80", true),
            ("http://[::1]", "http://::1", false),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("capacitor://localhost", "http://localhost", false),
        ] {
            assert_eq!(allows(pattern, &[origin]), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let pattern = "https://*.example.com";
        for (origin, expected) in [
            ("https://www.example.com", true),
            ("https://WWW.example.com:443", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://a.b.example.com", false),
            ("https://evil-example.com", false),
            ("https://evil.org/.example.com", false),
            ("https://www.example.com.evil.org", false),
            ("https://evil.org#.example.com", false),
            ("http://www.example.com", false),
            ("https://www.example.com:8443", false),
            ("null", false),
        ] {
            assert_eq!(allows(pattern, &[origin]), expected, "{origin}");
        }
        assert!(allows("http://*.example.com:81", &["http://www.example.com:81"]));
    }

    #[test]
    fn no_origin_is_no_browser_and_two_are_none() {
        assert!(allows("https://example.com", &[]));
        assert!(!allows("https://example.com", &["https://example.com", "https://example.com"]));
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, "null".parse().unwrap());
        assert!(Pages::Any.may_connect(&headers));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "*",
            "null",
            "example.com",
            "https://",
            "https://*",
            "https://*.",
            "https://*example.com",
            "https://a.*.com",
            "https://*.*.example.com",
            "*://example.com",
            "https://example.com/",
            "https://example.com:port",
            "https://example.com:*",
        ] {
            assert_eq!(text.parse::<OriginPattern>(), Err(InvalidOrigin), "{text}");
        }
        for text in ["https://*.example.com:8443", "http://[::1]", "capacitor://localhost"] {
            assert_eq!(text.parse::<OriginPattern>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_verdict(text in "[ -~]{0,40}") {
            if let Ok(pattern) = text.parse::<OriginPattern>() {
                let written = pattern.to_string();
                prop_assert_eq!(written.parse::<OriginPattern>(), Ok(pattern));
            }
        }

        #[test]
        fn a_pattern_matches_nothing_with_another_end(text in "https://[ -~]{0,30}") {
            if allows("https://*.example.com", &[&text]) {
                let text = text.to_ascii_lowercase();
                let bare = text.trim_end_matches(":443");
                prop_assert!(bare.ends_with(".example.com"), "{}", text);
            }
        }
    }
}
