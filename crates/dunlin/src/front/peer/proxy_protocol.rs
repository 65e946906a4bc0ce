//! The PROXY protocol, versions 1 and 2: what a balancer that passes bytes on says before them.
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who is served; none if the proxy speaks for itself or does not say.
    pub client: Option<IpAddr>,
    /// Whether the proxy speaks for itself (`LOCAL`), as for a health check.
    pub is_local: bool,
    /// Bytes of the header: what follows is the client's.
    pub length: usize,
}

/// What bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A header.
    Header(Header),
    /// What may become a header when more comes.
    Part,
    /// Something else.
    Other,
}

/// A header that breaks the protocol, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// How version 1 begins.
const TEXT: &[u8] = b"PROXY ";

/// Longest header of version 1, its line end included.
const TEXT_BYTES_MAX: usize = 107;

/// How version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length of the rest.
const FIXED_BYTES: usize = 16;

/// Looks at the first bytes of a connection.
///
/// # Errors
/// When they begin like a header and are none.
pub fn decode(bytes: &[u8]) -> Result<Beginning, Malformed> {
    if bytes.starts_with(TEXT) {
        return decode_text(bytes);
    }
    if bytes.starts_with(SIGNATURE) {
        return decode_binary(bytes);
    }
    match TEXT.starts_with(bytes) || SIGNATURE.starts_with(bytes) {
        true => Ok(Beginning::Part),
        false => Ok(Beginning::Other),
    }
}

fn decode_text(bytes: &[u8]) -> Result<Beginning, Malformed> {
    let within = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < TEXT_BYTES_MAX {
            true => Ok(Beginning::Part),
            false => Err(Malformed("its line is longer than 107 bytes")),
        };
    };
    let line = str::from_utf8(&bytes[..end]).map_err(|_| Malformed("its line is no text"))?;
    let fields: Vec<&str> = line.split(' ').skip(1).collect();
    let client = match fields[..] {
        ["UNKNOWN", ..] => None,
        ["TCP4", source, destination, ..] if fields.len() == 5 => {
            let _: Ipv4Addr = address(destination)?;
            Some(IpAddr::V4(address(source)?))
        }
        ["TCP6", source, destination, ..] if fields.len() == 5 => {
            let _: Ipv6Addr = address(destination)?;
            Some(IpAddr::V6(address(source)?).to_canonical())
        }
        _ => return Err(Malformed("expected TCP4, TCP6 or UNKNOWN, two addresses and two ports")),
    };
    if client.is_some() && !fields[3..].iter().all(|port| is_port(port)) {
        return Err(Malformed("a port is no number below 65536 without leading zeros"));
    }
    Ok(Beginning::Header(Header { client, is_local: false, length: end + 2 }))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port.to_string() == text)
}

fn address<T: std::str::FromStr>(text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|_| Malformed("an address is none, or none of its family"))
}

fn decode_binary(bytes: &[u8]) -> Result<Beginning, Malformed> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(Beginning::Part) };
    let [.., version_and_command, family_and_transport, high, low] = *fixed;
    if version_and_command >> 4 != 2 {
        return Err(Malformed("its version is not 2"));
    }
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let Some(header) = bytes.get(..length) else { return Ok(Beginning::Part) };
    // What follows the addresses is TLVs: nothing that we need.
    let addresses = &header[FIXED_BYTES..];
    let client = match (version_and_command & 0x0f, family_and_transport) {
        (LOCAL, _) => None,
        (PROXY, TCP_OVER_IPV4) => {
            let source = addresses.first_chunk::<12>().and_then(|all| all.first_chunk::<4>());
            Some(IpAddr::from(*source.ok_or(TOO_SHORT)?))
        }
        (PROXY, TCP_OVER_IPV6) => {
            let source = addresses.first_chunk::<36>().and_then(|all| all.first_chunk::<16>());
            Some(IpAddr::from(*source.ok_or(TOO_SHORT)?).to_canonical())
        }
        // Unix sockets, datagrams, or nothing that is told: nobody can be told apart by that.
        (PROXY, 0x00..=0x3f) if family_and_transport & 0x0f <= TRANSPORT_MAX => None,
        (PROXY, _) => return Err(Malformed("its family or its transport is not defined")),
        _ => return Err(Malformed("its command is neither LOCAL nor PROXY")),
    };
    let is_local = version_and_command & 0x0f == LOCAL;
    Ok(Beginning::Header(Header { client, is_local, length }))
}

/// Commands of version 2.
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

/// Families and transports of version 2 that have an address for us.
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The last transport that is defined, for each of the four families.
const TRANSPORT_MAX: u8 = 2;

const TOO_SHORT: Malformed = Malformed("it is too short for its addresses");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
    }

    fn is_header(bytes: &[u8], client: Option<&str>) {
        let client = client.map(|client| client.parse().unwrap());
        let length = bytes.len();
        let is_local = bytes.starts_with(SIGNATURE) && bytes[12] == 0x20;
        let header = Ok(Beginning::Header(Header { client, is_local, length }));
        assert_eq!(decode(bytes), header);
        assert_eq!(decode(&[bytes, b"GET / HTTP/1.1\r\n\r\n"].concat()), header);
        for part in 0..length {
            assert_eq!(decode(&bytes[..part]), Ok(Beginning::Part), "{part} bytes");
        }
    }

    #[test]
    fn headers_of_both_versions_are_read() {
        is_header(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", Some("192.0.2.7"));
        is_header(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n", Some("2001:db8::7"));
        is_header(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Some("192.0.2.7"));
        is_header(b"PROXY UNKNOWN\r\n", None);
        is_header(b"PROXY UNKNOWN whatever 1 2\r\n", None);

        let ipv4 = [&[192, 0, 2, 7, 198, 51, 100, 1][..], &[220, 4, 1, 187]].concat();
        let tlvs = [3, 0, 4, 1, 2, 3, 4];
        is_header(&binary(1, 0x11, &ipv4), Some("192.0.2.7"));
        is_header(&binary(1, 0x11, &[&ipv4[..], &tlvs].concat()), Some("192.0.2.7"));
        let ipv6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let ipv6 = [&ipv6.octets()[..], &[0; 20]].concat();
        is_header(&binary(1, 0x21, &ipv6), Some("2001:db8::7"));
        is_header(&binary(0, 0x11, &ipv4), None);
        is_header(&binary(0, 0, &[]), None);
        is_header(&binary(1, 0, &[0; 300]), None);
        is_header(&binary(1, 0x31, &[0; 216]), None);
    }

    #[test]
    fn what_breaks_the_protocol_is_told() {
        for text in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 +2\r\n",
            "PROXY TCP4 2001:db8::7 198.51.100.1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 ::1 1 2\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        ] {
            assert!(decode(text.as_bytes()).is_err(), "{text}");
        }
        assert!(decode(&[b"PROXY UNKNOWN ", &b"x".repeat(107)[..]].concat()).is_err());
        assert!(decode(&binary(2, 0x11, &[0; 12])).is_err());
        assert!(decode(&binary(1, 0x11, &[0; 11])).is_err());
        assert!(decode(&binary(1, 0x21, &[0; 35])).is_err());
        for family in [0x03, 0x13, 0x1f, 0x33, 0x40, 0x41, 0xff] {
            assert!(decode(&binary(1, family, &[0; 36])).is_err(), "{family:x}");
            is_header(&binary(0, family, &[0; 36]), None);
        }
        assert!(decode(&[SIGNATURE, &[0x11, 0x11, 0, 0]].concat()).is_err());
        for other in ["GET / HTTP/1.1", "POST", "PROXY\t", "\r\nGET / HTTP/1.1", "\u{16}"] {
            assert_eq!(decode(other.as_bytes()), Ok(Beginning::Other), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_verdict(
            begins in proptest::sample::select(vec![TEXT, SIGNATURE, b"PROXY TCP4 1.1.1.1 ", b""]),
            rest in proptest::collection::vec(any::<u8>(), 0..60),
            cut in 0..60_usize,
        ) {
            let bytes = [begins, &rest[..]].concat();
            let first = decode(&bytes[..cut.min(bytes.len())]);
            if first != Ok(Beginning::Part) {
                prop_assert_eq!(decode(&bytes), first);
            }
            if let Ok(Beginning::Header(header)) = first {
                prop_assert!(header.length <= cut);
            }
        }
    }
}
