//! What a connection speaks, read cheaply: a delivery is found by its stamp, an answer by its id;
//! nothing is parsed in full.

use memchr::{memchr, memchr_iter, memmem};
use serde::{Deserialize, Serialize};

use crate::{
    centrifuge::{Command, Encoding},
    payload::Stamp,
    target::Target,
};

/// The protocol of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Dialect {
    /// Messages and nothing else; the channel is in the path.
    Plain,
    /// The centrifuge protocol in JSON.
    CentrifugeJson,
    /// The centrifuge protocol in Protobuf.
    CentrifugeProtobuf,
}

/// One thing in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Heard {
    /// A message that starts with this stamp and has as many bytes as it should.
    Message(Stamp),
    /// The answer to a command.
    Answer(u32, Answer),
    /// A ping to answer in the protocol.
    Ping,
    /// Anything else.
    Other,
}

/// Whether a command was obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

impl Dialect {
    /// What servers speak at the path of a target.
    pub(crate) fn at(target: &Target) -> Self {
        if target.path.contains("/connection/") { Self::CentrifugeJson } else { Self::Plain }
    }

    /// How centrifuge messages are written; `None` in the plain dialect.
    pub(crate) fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Plain => None,
            Self::CentrifugeJson => Some(Encoding::Json),
            Self::CentrifugeProtobuf => Some(Encoding::Protobuf),
        }
    }

    /// The first frame of a client: connects and subscribes. Empty in the plain dialect.
    pub(crate) fn greeting(self, channel: Option<&str>) -> Vec<u8> {
        let mut frame = Vec::new();
        if let Some(encoding) = self.encoding() {
            encoding.put(&mut frame, CONNECT_ID, Command::Connect { token: "" });
            if let Some(channel) = channel {
                encoding.put(&mut frame, GREETED_ID, Command::Subscribe { channel, recover: None });
            }
        }
        frame
    }

    /// Takes a frame apart. `size` is what messages have.
    #[inline]
    pub(crate) fn hear(self, frame: &[u8], size: usize, mut on: impl FnMut(Heard)) {
        match self {
            Self::Plain => on(match Stamp::read(frame) {
                Some(stamp) if frame.len() == size => Heard::Message(stamp),
                _ => Heard::Other,
            }),
            Self::CentrifugeJson => {
                let mut rest = frame;
                while !rest.is_empty() {
                    let end = memchr(b'\n', rest).unwrap_or(rest.len());
                    on(hear_json(&rest[..end], size));
                    rest = rest.get(end + 1..).unwrap_or_default();
                }
            }
            Self::CentrifugeProtobuf => {
                let mut rest = frame;
                while let Some((length, start)) = varint(rest) {
                    let end = start.saturating_add(length as usize);
                    let Some(message) = rest.get(start..end) else { return on(Heard::Other) };
                    on(hear_protobuf(message, size));
                    rest = &rest[end..];
                }
            }
        }
    }
}

#[inline]
fn hear_json(line: &[u8], size: usize) -> Heard {
    if line == b"{}" {
        return Heard::Ping;
    }
    if let Some(rest) = line.strip_prefix(b"{\"id\":") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).take(9).count();
        let id = rest[..digits].iter().fold(0, |id, digit| id * 10 + u32::from(digit - b'0'));
        let no = rest[digits..].starts_with(b",\"error\"");
        return Heard::Answer(id, if no { Answer::No } else { Answer::Yes });
    }
    match memmem::find(line, b"\"data\":\"") {
        Some(at) => hear_text(&line[at + 8..], size),
        None => Heard::Other,
    }
}

#[inline]
fn hear_protobuf(message: &[u8], size: usize) -> Heard {
    match message {
        [] => Heard::Ping,
        // Field 1: the id; field 2: an error.
        [0x08, rest @ ..] => {
            let Some((id, length)) = varint(rest) else { return Heard::Other };
            let no = rest.get(length) == Some(&0x12);
            Heard::Answer(id as u32, if no { Answer::No } else { Answer::Yes })
        }
        _ => memchr_iter(b'"', message)
            .map(|at| hear_text(&message[at + 1..], size))
            .find(|heard| *heard != Heard::Other)
            .unwrap_or(Heard::Other),
    }
}

/// What stands behind an opening quote.
#[inline]
fn hear_text(text: &[u8], size: usize) -> Heard {
    match Stamp::read(text) {
        Some(stamp) if text.get(size) == Some(&b'"') => Heard::Message(stamp),
        _ => Heard::Other,
    }
}

/// A number of at most 32 bits and its length.
#[inline]
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        number |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, index + 1));
        }
    }
    None
}

const CONNECT_ID: u32 = 1;
/// The id of the last command of a greeting with a channel.
pub(crate) const GREETED_ID: u32 = 2;
/// The first id of a publish.
pub(crate) const PUBLISH_ID: u32 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 64;

    fn heard(dialect: Dialect, frame: &[u8]) -> Vec<Heard> {
        let mut all = Vec::new();
        dialect.hear(frame, SIZE, |heard| all.push(heard));
        all
    }

    fn message() -> (Stamp, String) {
        let stamp = Stamp { run: 1, publisher: 2, sequence: 3, sent_ns: 4 };
        let mut data = [b'.'; SIZE];
        stamp.write(&mut data);
        (stamp, String::from_utf8(data.to_vec()).unwrap())
    }

    #[test]
    fn a_batch_is_taken_apart() {
        let (stamp, data) = message();
        let expected = [
            Heard::Message(stamp),
            Heard::Ping,
            Heard::Answer(70, Answer::Yes),
            Heard::Answer(300, Answer::No),
            Heard::Other,
            Heard::Message(stamp),
        ];
        let push = format!(r#"{{"push":{{"channel":"c","pub":{{"data":"{data}","offset":9}}}}}}"#);
        let lines = [
            &push,
            "{}",
            r#"{"id":70,"publish":{}}"#,
            r#"{"id":300,"error":{"code":103,"message":"permission denied"}}"#,
            r#"{"push":{"channel":"c","pub":{"data":"short","offset":9}}}"#,
            &push,
        ];
        let json = lines.join("\n");
        assert_eq!(heard(Dialect::CentrifugeJson, json.as_bytes()), expected);

        // Channel, publication with data and offset: a push.
        let mut push = b"\x4d\x22\x4b\x12\x01c\x22\x46\x22\x42\"".to_vec();
        push.extend_from_slice(data.as_bytes());
        push.extend_from_slice(b"\"\x30\x09");
        let rest = b"\x00\x04\x08\x46\x42\x00\x07\x08\xac\x02\x12\x02\x08\x67\x05\x22\x03\x12\x01c";
        let protobuf = [&push[..], rest, &push].concat();
        assert_eq!(heard(Dialect::CentrifugeProtobuf, &protobuf), expected);

        assert_eq!(heard(Dialect::Plain, data.as_bytes()), [Heard::Message(stamp)]);
        assert_eq!(heard(Dialect::Plain, b"{}"), [Heard::Other]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_heard_without_panic(bytes: Vec<u8>) {
            heard(Dialect::CentrifugeJson, &bytes);
            heard(Dialect::CentrifugeProtobuf, &bytes);
        }
    }
}
