//! Terms: how bytes are written in the files of `tests/corpus`, whose README tells it to readers.

use std::{collections::BTreeMap, iter};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use flate2::{Compress, Compression, FlushCompress};

/// Names that stand for terms.
pub(super) type Names = BTreeMap<String, Vec<Term>>;

/// Bytes, or how to make them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    Bytes(Vec<u8>),
    /// `$name`
    Name(String),
    /// `name:parameter:parameter(terms)`
    Call(Call),
    /// `term*times`
    Repeat(Box<Self>, usize),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) parameters: Vec<String>,
    pub(super) arguments: Vec<Term>,
}

/// What is wrong with a text, for whoever wrote it.
pub(super) type Mistake = String;

/// Reads terms up to the end of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Term>, Mistake> {
    let mut reader = Reader { rest: text };
    let terms = reader.terms()?;
    match reader.rest {
        "" => Ok(terms),
        rest => Err(format!("what is {rest:?}?")),
    }
}

/// The bytes that terms make.
pub(super) fn bytes(terms: &[Term], names: &Names) -> Result<Vec<u8>, Mistake> {
    let mut made = Vec::new();
    for term in terms {
        match term {
            Term::Bytes(bytes) => made.extend(bytes),
            Term::Name(name) => {
                let meaning = names.get(name).ok_or_else(|| format!("nothing is named ${name}"))?;
                made.extend(bytes(meaning, names)?);
            }
            Term::Repeat(term, times) => {
                made.extend(bytes(std::slice::from_ref(term), names)?.repeat(*times));
            }
            Term::Call(call) => made.extend(call.bytes(names)?),
        }
    }
    Ok(made)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn terms(&mut self) -> Result<Vec<Term>, Mistake> {
        let mut terms = Vec::new();
        loop {
            self.rest = self.rest.trim_start_matches(' ');
            if self.rest.is_empty() || self.rest.starts_with(')') {
                return Ok(terms);
            }
            terms.push(self.term()?);
        }
    }

    fn term(&mut self) -> Result<Term, Mistake> {
        let term = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => Term::Bytes(self.quoted(quote)?),
            Some('$') => {
                self.rest = &self.rest[1..];
                Term::Name(self.word()?)
            }
            _ => self.word_or_call()?,
        };
        if !self.eat('*') {
            return Ok(term);
        }
        let times = self.word()?;
        let times = times.parse().map_err(|_| format!("{times:?} is no number of times"))?;
        Ok(Term::Repeat(Box::new(term), times))
    }

    /// Hexadecimal digits, or a call.
    fn word_or_call(&mut self) -> Result<Term, Mistake> {
        let name = self.word()?;
        let mut parameters = Vec::new();
        while self.eat(':') {
            parameters.push(self.word()?);
        }
        let has_arguments = self.eat('(');
        if !has_arguments && parameters.is_empty() && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Term::Bytes(from_hex(&name)?));
        }
        let mut arguments = Vec::new();
        if has_arguments {
            arguments = self.terms()?;
            if !self.eat(')') {
                return Err(format!("{name}( is not closed"));
            }
        }
        Ok(Term::Call(Call { name, parameters, arguments }))
    }

    fn word(&mut self) -> Result<String, Mistake> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "" => Err(format!("expected a word before {rest:?}")),
            word => Ok(word.to_owned()),
        }
    }

    fn eat(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn quoted(&mut self, quote: char) -> Result<Vec<u8>, Mistake> {
        let mut bytes = Vec::new();
        let mut chars = self.rest[1..].chars();
        loop {
            match chars.next().ok_or("a text is not closed")? {
                c if c == quote => break,
                '\\' => bytes.push(escape(&mut chars)?),
                c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.rest = chars.as_str();
        Ok(bytes)
    }
}

fn escape(chars: &mut impl Iterator<Item = char>) -> Result<u8, Mistake> {
    Ok(match chars.next() {
        Some('r') => b'\r',
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('0') => 0,
        Some(c @ ('\\' | '\'' | '"')) => c as u8,
        Some('x') => {
            let digits: String = chars.take(2).collect();
            u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is no byte"))?
        }
        other => return Err(format!("\\ before {other:?} means nothing")),
    })
}

fn from_hex(digits: &str) -> Result<Vec<u8>, Mistake> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let is_even = digits.len().is_multiple_of(2);
    let bytes: Option<_> = pairs.map(byte).collect();
    bytes.filter(|_| is_even).ok_or_else(|| format!("{digits} is an odd number of digits"))
}

impl Call {
    pub(super) fn number(&self, place: usize) -> Result<u64, Mistake> {
        let parameter = self.parameters.get(place);
        let number = parameter.and_then(|text| text.parse().ok());
        number.ok_or_else(|| format!("{}: its parameter {place} is no number", self.name))
    }

    fn bytes(&self, names: &Names) -> Result<Vec<u8>, Mistake> {
        let inner = bytes(&self.arguments, names)?;
        Ok(match self.name.as_str() {
            "frame" => frame(self.first_byte()?, &inner, true),
            "unmasked" => frame(self.first_byte()?, &inner, false),
            "masked" => masked(&inner),
            "deflate" => deflated(&inner),
            "body" => {
                [format!("Content-Length: {}\r\n\r\n", inner.len()).as_bytes(), &inner].concat()
            }
            "json" => serde_json::to_vec(&String::from_utf8_lossy(&inner)).unwrap(),
            "cut" => {
                let length = usize::try_from(self.number(0)?).unwrap();
                inner.get(..length).ok_or("cut: it is not that long")?.to_vec()
            }
            "len16" => [&(inner.len() as u16).to_be_bytes()[..], &inner].concat(),
            "varint" => varint(self.number(0)?),
            "int" => [varint(self.number(0)? << 3), varint(self.number(1)?)].concat(),
            "field" => {
                let key = varint(self.number(0)? << 3 | 2);
                [key, varint(inner.len() as u64), inner].concat()
            }
            "delimited" => [varint(inner.len() as u64), inner].concat(),
            "b64" => BASE64_URL_SAFE_NO_PAD.encode(inner).into_bytes(),
            "hs256" => self.signed(hmac::HMAC_SHA256, &inner),
            "hs384" => self.signed(hmac::HMAC_SHA384, &inner),
            "hs512" => self.signed(hmac::HMAC_SHA512, &inner),
            name => return Err(format!("{name} is neither digits nor something to make")),
        })
    }

    fn first_byte(&self) -> Result<u8, Mistake> {
        let digits = self.parameters.first();
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.ok_or_else(|| format!("{}: its first byte is missing", self.name))
    }

    fn signed(&self, hash: hmac::Algorithm, message: &[u8]) -> Vec<u8> {
        let secret = self.parameters.first().map_or("secret", String::as_str);
        let tag = hmac::sign(&hmac::Key::new(hash, secret.as_bytes()), message);
        [message, b".", BASE64_URL_SAFE_NO_PAD.encode(tag).as_bytes()].concat()
    }
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..65_536 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if !is_masked {
        frame.extend(payload);
        return frame;
    }
    frame[1] |= 0x80;
    frame.extend(masked(payload));
    frame
}

/// The key and what it masks.
fn masked(payload: &[u8]) -> Vec<u8> {
    let hidden = iter::zip(payload, MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    MASK.into_iter().chain(hidden).collect()
}

/// The payload of a compressed message: one block, without the tail that RFC 7692 leaves out.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::default(), false);
    let mut out = Vec::with_capacity(payload.len() + 1024);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(compress.total_in(), payload.len() as u64);
    out.truncate(out.len() - 4);
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[u8]) {
        let names = Names::from([("name".to_owned(), parse("'na' 6d65").unwrap())]);
        assert_eq!(bytes(&parse(text).unwrap(), &names).unwrap(), expected, "{text}");
    }

    #[test]
    fn terms_are_what_the_readme_tells() {
        check("", b"");
        check("8101ff 0A", b"\x81\x01\xff\n");
        check(r#"'a"b' "it's" '\r\n\t\0\\\'\x7c' 'é'"#, "a\"bit's\r\n\t\0\\'|é".as_bytes());
        check("'ab'*3 00*2 $name $name*2", b"ababab\0\0namenamename");
        check("frame:81('Hi')", b"\x81\x82\x37\xfa\x21\x3d\x7f\x93");
        check("unmasked:01('Hi') masked('Hi')", b"\x01\x02Hi\x37\xfa\x21\x3d\x7f\x93");
        check("cut:4(frame:81('x'*70000))", b"\x81\xff\0\0");
        check("cut:4(frame:81('x'*126))", b"\x81\xfe\0\x7e");
        check("deflate('Hello')", b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        check("body('{}')", b"Content-Length: 2\r\n\r\n{}");
        check(r#"json('a"\n')"#, br#""a\"\n""#);
        check("len16('abc')", b"\0\x03abc");
        check("varint:300 int:1:5 field:4('x') delimited('y')", b"\xac\x02\x08\x05\x22\x01x\x01y");
        check("b64('{}')", b"e30");
        let signed = "hs256:your-256-bit-secret(b64('{\"alg\":\"HS256\"}') '.' b64('{}'))";
        assert_eq!(
            bytes(&parse(signed).unwrap(), &Names::new()).unwrap().len(),
            20 + 1 + 3 + 1 + 43
        );
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["8", "abc", "'open", "'\\q'", "'\\x4'", "call(", "$", "'a'*", "'a'*x", ")"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["$unknown", "unknown()", "varint", "varint:x", "frame()", "cut:3('ab')"] {
            assert!(bytes(&parse(text).unwrap(), &Names::new()).is_err(), "{text}");
        }
    }
}
