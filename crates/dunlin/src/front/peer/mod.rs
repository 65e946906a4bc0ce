//! Who is at the other end: the socket's address, or the one that a trusted proxy tells.

pub mod forwarded;
mod lists;
pub mod proxy_protocol;

use std::net::IpAddr;

use hyper::{HeaderMap, Request, header::HeaderValue};
use ipnet::IpNet;

use self::forwarded::Hops;
pub(crate) use self::lists::AddressLists;
use crate::config::{ProxyConfig, ProxyHeader};

/// The address of whoever sent a request, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl ClientAddress {
    /// That of whoever sent this request, if it came in by a listener.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<IpAddr> {
        request.extensions().get().map(|Self(address)| *address)
    }
}

/// Which proxies are believed, and in what.
pub(crate) struct Proxies {
    trusted: Vec<IpNet>,
    header: ProxyHeader,
    speak_protocol: bool,
}

impl Proxies {
    /// Those that the operator names.
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        Self {
            trusted: config.trusted.clone(),
            header: config.header,
            speak_protocol: config.protocol,
        }
    }

    /// Nobody is believed.
    pub(crate) fn none() -> Self {
        Self { trusted: Vec::new(), header: ProxyHeader::Off, speak_protocol: false }
    }

    /// Whether this is a trusted proxy.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whether a connection from there begins with a header of the PROXY protocol.
    pub(crate) fn speak_protocol(&self, address: IpAddr) -> bool {
        self.speak_protocol && self.trust(address)
    }

    /// Who sent a request that came from `near`: the last one before the trusted proxies. What one
    /// of these says that is no address counts for nothing.
    pub(crate) fn client(&self, near: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = near;
        if self.trust(near) {
            for hop in self.hops(headers).into_iter().rev() {
                match hop {
                    Some(address) => client = address,
                    None => return near,
                }
                if !self.trust(client) {
                    break;
                }
            }
        }
        client
    }

    fn hops(&self, headers: &HeaderMap) -> Hops {
        let (name, read): (_, fn(&str) -> Hops) = match self.header {
            ProxyHeader::Off => return Hops::new(),
            ProxyHeader::XForwardedFor => ("x-forwarded-for", forwarded::x_forwarded_for),
            ProxyHeader::Forwarded => ("forwarded", forwarded::forwarded),
        };
        // Strangers may have written anything before what counts, also what is no text.
        let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        values.flat_map(|value| read(&String::from_utf8_lossy(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn proxies(header: ProxyHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|text| text.parse().unwrap()).to_vec();
        Proxies { trusted, header, speak_protocol: false }
    }

    fn client(proxies: &Proxies, near: &str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            let name = match proxies.header {
                ProxyHeader::Forwarded => "forwarded",
                _ => "x-forwarded-for",
            };
            headers.append(name, value.parse().unwrap());
        }
        proxies.client(near.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_last_one_before_the_trusted_proxies_is_the_client() {
        let proxies = proxies(ProxyHeader::XForwardedFor);
        for (near, values, expected) in [
            ("192.0.2.1", &["192.0.2.7"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &["203.0.113.9, 192.0.2.7, 10.1.1.1, 2001:db8:1::1"], "192.0.2.7"),
            ("10.0.0.1", &["203.0.113.9", "192.0.2.7", "10.1.1.1"], "192.0.2.7"),
            // What strangers wrote before does not count, be it what it may.
            ("10.0.0.1", &["nonsense, 192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &["192.0.2.7, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7, nonsense, 10.1.1.1"], "10.0.0.1"),
            ("10.0.0.1", &["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        ] {
            assert_eq!(client(&proxies, near, values), expected, "{near} {values:?}");
        }
    }

    #[test]
    fn only_the_header_that_is_set_counts() {
        let forwarded = proxies(ProxyHeader::Forwarded);
        assert_eq!(client(&forwarded, "10.0.0.1", &["for=192.0.2.7"]), "192.0.2.7");
        assert_eq!(client(&forwarded, "10.0.0.1", &["192.0.2.7"]), "10.0.0.1");
        let off = proxies(ProxyHeader::Off);
        assert_eq!(client(&off, "10.0.0.1", &["192.0.2.7"]), "10.0.0.1");
        assert_eq!(client(&Proxies::none(), "10.0.0.1", &["192.0.2.7"]), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn strangers_cannot_choose_their_address(
            before in proptest::collection::vec(any::<u8>(), 0..60),
            quotes in "[\"\\\\,;=]{0,9}",
        ) {
            let near = "10.0.0.1".parse().unwrap();
            for (header, name, behind) in [
                (ProxyHeader::XForwardedFor, "x-forwarded-for", ", 192.0.2.7, 10.1.1.1"),
                (ProxyHeader::Forwarded, "forwarded", ", for=192.0.2.7, for=10.1.1.1"),
            ] {
                let value = [&before[..], quotes.as_bytes(), behind.as_bytes()].concat();
                let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
                let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
                let found = proxies(header).client(near, &headers);
                prop_assert_eq!(found.to_string(), "192.0.2.7");
            }
        }
    }
}
