//! Messages of commands on a connection of the Centrifuge dialect.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Case, Event, terms};
use crate::harness::{Client, Message, Node, Opcode, frame};

/// The number of the command that comes last, which changes nothing.
const LAST: u64 = 4_000_000_000;

/// How long an answer that is expected may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection, and how its messages are written.
struct Talk {
    client: Client,
    opcode: Opcode,
    /// A command that changes nothing.
    last: Vec<u8>,
    seen: Vec<Event>,
    has_ended: bool,
}

/// What is to be known of a reply.
struct Reply {
    id: u64,
    /// The code of its error; none if it is a result or no reply at all.
    error: Option<u64>,
    is_push: bool,
}

pub(super) fn play_json(node: &Node, case: &Case) -> Vec<Event> {
    let last = format!(r#"{{"id":{LAST},"unsubscribe":{{"channel":"not-subscribed"}}}}"#);
    Talk::begin(node.address, "", Opcode::Text, last.into_bytes()).play(case)
}

pub(super) fn play_protobuf(node: &Node, case: &Case) -> Vec<Event> {
    let last = format!("delimited(int:1:{LAST} field:6(field:1('not-subscribed')))");
    let last = terms::bytes(&terms::parse(&last).unwrap(), &terms::Names::new()).unwrap();
    Talk::begin(node.address, "?cf_protocol=protobuf", Opcode::Binary, last).play(case)
}

impl Talk {
    fn begin(address: SocketAddr, query: &str, opcode: Opcode, last: Vec<u8>) -> Self {
        let client = Client::open(address, &format!("/connection/websocket{query}"));
        Self { client, opcode, last, seen: Vec::new(), has_ended: false }
    }

    fn play(mut self, case: &Case) -> Vec<Event> {
        if !case.before.is_empty() {
            self.send(&case.before);
            self.read_until(|seen| seen.iter().filter(|event| event.name == "result").count() >= 2);
            let results = self.seen.iter().filter(|event| event.name == "result").count();
            assert!(results == 2, "{}: before it: {:?}", case.place, self.seen);
            self.seen.clear();
        }
        self.send(&case.input);
        let nothing = Event::new("nothing", None, None);
        let wanted = case.expected.iter().filter(|event| **event != nothing).count();
        // Some answers come later than those to the commands behind them.
        self.read_until(|seen| seen.len() >= wanted);
        if !self.has_ended {
            let last = self.last.clone();
            self.send(&last);
            let is_last = |event: &Event| event.name == "last";
            self.read_until(|seen| seen.iter().any(is_last));
            self.seen.retain(|event| !is_last(event));
        }
        // Publications come by way of the broker, and their replies by another.
        self.seen.sort_by_key(|event| event.name == "push");
        if self.seen.is_empty() {
            self.seen.push(nothing);
        }
        self.seen
    }

    fn send(&mut self, message: &[u8]) {
        // The server may close before it has all of it.
        let _ = self.client.try_send_bytes(&frame(self.opcode, message));
    }

    /// Reads until it is enough, the connection has ended, or nothing comes.
    fn read_until(&mut self, is_enough: impl Fn(&[Event]) -> bool) {
        while !self.has_ended && !is_enough(&self.seen) && !self.client.is_silent_for(ANSWER) {
            let replies = match self.client.receive_any() {
                Message::Text(text) => text.lines().map(json_reply).collect(),
                Message::Binary(data) => protobuf_replies(&data),
                Message::Close(code, reason) => {
                    self.seen.push(Event::new("close", Some(code.into()), Some(reason.into())));
                    self.has_ended = true;
                    return;
                }
                Message::End => {
                    self.seen.push(Event::new("closed", None, None));
                    self.has_ended = true;
                    return;
                }
                Message::Ping(_) | Message::Pong(_) => Vec::new(),
            };
            self.seen.extend(replies.iter().filter_map(Reply::event));
        }
    }
}

impl Reply {
    /// None for a ping.
    fn event(&self) -> Option<Event> {
        let name = match self {
            Self { id: LAST, error: None, .. } => "last",
            Self { error: Some(_), .. } => "error",
            Self { id: 0, is_push: true, .. } => "push",
            Self { id: 0, .. } => return None,
            _ => "result",
        };
        Some(Event::new(name, self.error, None))
    }
}

fn json_reply(line: &str) -> Reply {
    /// What others published need not be anything that this parser takes.
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(default)]
        id: u64,
        error: Option<Error>,
        #[serde(borrow)]
        push: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: u64,
    }
    let Line { id, error, push } = serde_json::from_str(line).unwrap();
    Reply { id, error: error.map(|error| error.code), is_push: push.is_some() }
}

fn protobuf_replies(mut message: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !message.is_empty() {
        let length = usize::try_from(varint(&mut message)).unwrap();
        let (reply, rest) = message.split_at(length);
        message = rest;
        let code = |error| fields(error).find(|field| field.0 == 1).map(|field| field.1);
        let of_number = |wanted| fields(reply).find(|field| field.0 == wanted);
        replies.push(Reply {
            id: of_number(1).map(|field| field.1).unwrap_or_default(),
            error: of_number(2).and_then(|field| code(field.2)),
            is_push: of_number(4).is_some(),
        });
    }
    replies
}

/// The fields of a Protobuf message: the number of each, and its value or its bytes.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, u64, &[u8])> {
    std::iter::from_fn(move || {
        let key = (!message.is_empty()).then(|| varint(&mut message))?;
        let value = varint(&mut message);
        let bytes = match key & 7 {
            0 => &[],
            2 => {
                let (bytes, rest) = message.split_at(usize::try_from(value).unwrap());
                message = rest;
                bytes
            }
            other => panic!("wire type {other}"),
        };
        Some((key >> 3, value, bytes))
    })
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
