//! `Sec-WebSocket-Extensions`: reads the client's offers (RFC 6455, 9.1) and picks one of
//! permessage-deflate (RFC 7692, 7.1).

use crate::deflate::{Compression, WINDOW_BITS};

/// The most extensions a client may offer, and the most parameters of one.
const ELEMENTS_MAX: usize = 16;

/// The header does not follow its grammar or has too many elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// An offer the server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) compression: Compression,
    /// The value of the answer's `Sec-WebSocket-Extensions`.
    pub(crate) header: &'static str,
}

/// Picks the first offer under which both sides may compress, else the first acceptable one.
/// `values` are the values of all headers of that name.
pub(crate) fn choose<'a>(
    values: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<Answer>, Malformed> {
    let mut answers = Vec::new();
    let mut offers = 0;
    for value in values {
        let mut scan = Scan { rest: value };
        while scan.next_element() {
            offers += 1;
            if offers > ELEMENTS_MAX {
                return Err(Malformed);
            }
            answers.extend(read_offer(&mut scan)?);
        }
    }
    let both = answers.iter().find(|answer| answer.compression.may_send());
    Ok(both.or(answers.first()).copied())
}

/// Reads one offer to its end; `None` if the server declines it.
fn read_offer(scan: &mut Scan<'_>) -> Result<Option<Answer>, Malformed> {
    let mut acceptable = scan.token()? == b"permessage-deflate";
    let mut names = Vec::new();
    let mut window_bits = None;
    while scan.eat(b';') {
        let name = scan.token()?;
        let value = if scan.eat(b'=') { Some(scan.value()?) } else { None };
        if names.len() == ELEMENTS_MAX {
            return Err(Malformed);
        }
        acceptable &= !names.contains(&name);
        names.push(name);
        acceptable &= match (name, value) {
            (b"server_no_context_takeover" | b"client_no_context_takeover", None) => true,
            (b"client_max_window_bits", None) => true,
            (b"client_max_window_bits", Some(value)) => parse_window_bits(value).is_some(),
            (b"server_max_window_bits", Some(value)) => {
                window_bits = parse_window_bits(value);
                window_bits.is_some()
            }
            _ => false,
        };
    }
    Ok(acceptable.then(|| answer(window_bits)))
}

/// The answer to an acceptable offer, which may ask for a window of the server's compressor.
fn answer(window_bits: Option<u8>) -> Answer {
    macro_rules! header {
        ($($window:literal)?) => {
            concat!(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                $("; server_max_window_bits=", $window)?
            )
        };
    }
    let (compression, header) = match window_bits {
        None => (Compression::On, header!()),
        Some(WINDOW_BITS..) => (Compression::On, header!(12)),
        Some(11) => (Compression::ReceiveOnly, header!(11)),
        Some(10) => (Compression::ReceiveOnly, header!(10)),
        Some(9) => (Compression::ReceiveOnly, header!(9)),
        Some(..=8) => (Compression::ReceiveOnly, header!(8)),
    };
    Answer { compression, header }
}

/// A window of 8 to 15 bits, without leading zeros.
fn parse_window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// Reads the grammar of the header from left to right.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    /// Moves behind commas to the next element; false at the end.
    fn next_element(&mut self) -> bool {
        while self.eat(b',') {}
        !self.rest.is_empty()
    }

    /// Takes `wanted`, with white space around it.
    fn eat(&mut self, wanted: u8) -> bool {
        self.rest = self.rest.trim_ascii_start();
        let Some((_, rest)) = self.rest.split_first().filter(|(byte, _)| **byte == wanted) else {
            return false;
        };
        self.rest = rest.trim_ascii_start();
        true
    }

    /// Takes a token (RFC 9110, 5.6.2). What follows it must be a delimiter or the end.
    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.rest.iter().position(|byte| !is_token_byte(*byte));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let ends_well = matches!(rest.trim_ascii_start(), [] | [b',' | b';' | b'=', ..]);
        if token.is_empty() || !ends_well { Err(Malformed) } else { Ok(token) }
    }

    /// Takes a token or a quoted string. Its escapes stay as they are: no value we know has any.
    fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let Some(quoted) = self.rest.strip_prefix(b"\"") else { return self.token() };
        let mut escaped = false;
        let end = quoted.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let (value, rest) = quoted.split_at(end.ok_or(Malformed)?);
        self.rest = rest[1..].trim_ascii_start();
        if matches!(self.rest, [] | [b',' | b';', ..]) { Ok(value) } else { Err(Malformed) }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn check(values: &[&str], expected: Result<Option<(Compression, &str)>, Malformed>) {
        let chosen = choose(values.iter().map(|value| value.as_bytes()));
        let chosen = chosen.map(|answer| answer.map(|a| (a.compression, a.header)));
        assert_eq!(chosen, expected, "{values:?}");
    }

    #[test]
    fn takes_what_clients_offer() {
        use Compression::On;
        check(&["permessage-deflate"], Ok(Some((On, BOTH))));
        check(&["permessage-deflate; client_max_window_bits"], Ok(Some((On, BOTH))));
        check(&["permessage-deflate;client_max_window_bits=8"], Ok(Some((On, BOTH))));
        check(&[" ,, permessage-deflate ; client_max_window_bits=\"10\" ,"], Ok(Some((On, BOTH))));
        let twelve = format!("{BOTH}; server_max_window_bits=12");
        for bits in 12..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            check(&[&offer], Ok(Some((On, &twelve))));
        }
        check(
            &["x-unknown; a=\"permessage-deflate, \\\" ;\"", "permessage-deflate"],
            Ok(Some((On, BOTH))),
        );
    }

    #[test]
    fn small_windows_get_plain_frames() {
        for bits in 8..12 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let header = format!("{BOTH}; server_max_window_bits={bits}");
            check(&[&offer], Ok(Some((Compression::ReceiveOnly, &header))));
            let offers = format!("{offer}, permessage-deflate");
            check(&[&offers], Ok(Some((Compression::On, BOTH))));
        }
    }

    #[test]
    fn declines_what_it_does_not_know() {
        check(&[], Ok(None));
        check(&[""], Ok(None));
        check(&["x-webkit-deflate-frame, constructor; __proto__=1"], Ok(None));
        for parameter in [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=012",
            "server_max_window_bits=\"1\\2\"",
            "client_max_window_bits=0",
            "client_max_window_bits=\"\"",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"\"",
            "unknown",
            "client_max_window_bits; client_max_window_bits",
        ] {
            let offer = format!("permessage-deflate; {parameter}");
            check(&[&offer], Ok(None));
            check(&[&format!("{offer}, permessage-deflate")], Ok(Some((Compression::On, BOTH))));
        }
    }

    #[test]
    fn refuses_what_is_malformed() {
        for value in [
            ";",
            "=",
            "a;",
            "a; ;",
            "a b",
            "a; b=",
            "a; b=\"",
            "a; b=\"c",
            "a; b=\"c\\\"",
            "a; b=\"c\"d",
            "a; b=c=d",
            "\u{e9}",
            "a;b,,c;",
        ] {
            check(&[value], Err(Malformed));
        }
        check(&[&"a,".repeat(16)], Ok(None));
        check(&[&"a,".repeat(17)], Err(Malformed));
        check(&["a,b,c,d,e,f,g,h", "i,j,k,l,m,n,o,p,q"], Err(Malformed));
        check(&[&format!("a{}", ";b".repeat(17))], Err(Malformed));
    }
}
