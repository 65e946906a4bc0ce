//! What proxies say in headers about whom they serve: `X-Forwarded-For`, and `Forwarded` of
//! RFC 7239.

use std::net::IpAddr;

/// Whom each proxy served, the nearest proxy last; none where that is no address.
pub type Hops = Vec<Option<IpAddr>>;

/// What one `X-Forwarded-For` says.
pub fn x_forwarded_for(value: &str) -> Hops {
    value.split(',').map(address).collect()
}

/// What one `Forwarded` says.
pub fn forwarded(value: &str) -> Hops {
    split(value, ',').into_iter().map(served).collect()
}

/// The `for` of an element such as `for="[2001:db8::7]:4711";proto=https`.
fn served(element: &str) -> Option<IpAddr> {
    let pairs = split(element, ';');
    let mut values = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    match value.strip_prefix('"') {
        // No address has what needs a backslash.
        Some(quoted) => address(quoted.strip_suffix('"')?),
        None => address(value),
    }
}

/// The parts between separators that are not in quotes. Read from the end: what proxies wrote there
/// is whole, whatever strangers wrote before it, be it a quote that never ends.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut end, mut is_quoted) = (Vec::new(), text.len(), false);
    for (at, c) in text.char_indices().rev() {
        match c {
            '"' if !is_escaped(&text[..at]) => is_quoted = !is_quoted,
            _ if c == separator && !is_quoted => {
                parts.push(&text[at + c.len_utf8()..end]);
                end = at;
            }
            _ => {}
        }
    }
    parts.push(&text[..end]);
    parts.reverse();
    parts
}

/// Whether what follows is escaped by the backslash before it.
fn is_escaped(before: &str) -> bool {
    before.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let has_port = rest.strip_prefix(':').is_some_and(is_port);
        (rest.is_empty() || has_port).then(|| address.parse().ok().map(IpAddr::V6))?
    } else {
        let with_port = || {
            let (address, port) = text.split_once(':')?;
            is_port(port).then(|| address.parse().ok().map(IpAddr::V4))?
        };
        text.parse().ok().or_else(with_port)
    };
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hops(texts: &[&str]) -> Hops {
        texts.iter().map(|text| text.parse().ok()).collect()
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (value, expected) in [
            ("192.0.2.7", &["192.0.2.7"][..]),
            ("192.0.2.7, 10.0.0.1 ,2001:db8::7", &["192.0.2.7", "10.0.0.1", "2001:db8::7"]),
            ("192.0.2.7:4711, [2001:db8::7]:1, [::1]", &["192.0.2.7", "2001:db8::7", "::1"]),
            ("::ffff:192.0.2.7", &["192.0.2.7"]),
            ("unknown, , 192.0.2.7:, 192.0.2.7:x, [192.0.2.7], 1.2.3", &["", "", "", "", "", ""]),
            ("[::1]x, [::1, ::1]:1", &["", "", ""]),
        ] {
            assert_eq!(x_forwarded_for(value), hops(expected), "{value}");
        }
        for (value, expected) in [
            ("for=192.0.2.7;proto=http;by=203.0.113.43", &["192.0.2.7"][..]),
            ("For=\"[2001:db8::7]:4711\"", &["2001:db8::7"]),
            ("for=192.0.2.7, for = \"10.0.0.1:80\"", &["192.0.2.7", "10.0.0.1"]),
            ("for=_hidden, for=unknown, for=\"_x:_y\"", &["", "", ""]),
            ("proto=http, by=10.0.0.1", &["", ""]),
            ("for=192.0.2.7;for=192.0.2.8", &[""]),
            ("host=\"a,b;for=10.0.0.1\";for=192.0.2.7", &["192.0.2.7"]),
            ("host=\"a\\\",for=10.0.0.1\";for=192.0.2.7", &["192.0.2.7"]),
            ("for=\"192.0.2.7", &[""]),
            ("x=\", for=192.0.2.7", &["", "192.0.2.7"]),
            ("x=\"\\\\\", for=192.0.2.7", &["", "192.0.2.7"]),
            ("x=\", for=192.0.2.7;host=\"a, b\"", &["", "192.0.2.7"]),
        ] {
            assert_eq!(forwarded(value), hops(expected), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_something(value in ".{0,80}") {
            prop_assert_eq!(x_forwarded_for(&value).len(), value.matches(',').count() + 1);
            prop_assert!(!forwarded(&value).is_empty());
        }

        #[test]
        fn what_is_written_is_read(addresses in proptest::collection::vec(any::<IpAddr>(), 1..6)) {
            let expected: Hops = addresses.iter().map(|it| Some(it.to_canonical())).collect();
            let plain: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            prop_assert_eq!(x_forwarded_for(&plain.join(", ")), expected.clone());
            let elements = addresses.iter().map(|address| match address {
                IpAddr::V4(address) => format!("proto=https;for={address}"),
                IpAddr::V6(address) => format!("for=\"[{address}]:80\";by=_proxy"),
            });
            prop_assert_eq!(forwarded(&elements.collect::<Vec<_>>().join(",")), expected);
        }
    }
}
