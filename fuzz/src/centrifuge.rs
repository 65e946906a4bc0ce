//! Targets for what clients of the Centrifuge dialect send, and for what is made of it.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName,
    command::{Command, Request},
    event::{Event, Outcome},
    filter::FilterNode,
    publication::{ClientInfo, Delta, Details, Encoding, Kind, Publication, PushFormat},
};
use dunlin_protocol::{
    centrifuge::{commands, push, write_event},
    fossil,
};
use serde_json::value::RawValue;

/// Any bytes are commands or an error, the data of commands is JSON of one line, and whatever is
/// published makes a line of JSON that says it.
///
/// Input: commands; at the same time payloads, parted by zeros.
pub fn centrifuge_json(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').count();
    let read = decode(Encoding::Json, data);
    assert!(read.len() <= lines, "a line holds one command");
    for command in &read {
        if let Request::Publish { data, .. } | Request::Rpc { data, .. } | Request::Send(data) =
            &command.request
        {
            assert!(data.is_empty() || is_line_of_json(data));
        }
    }
    let mut before = None;
    for payload in payloads(data) {
        let publication = publication(payload);
        for delta in [Delta::Off, Delta::Full, Delta::Fossil] {
            let format = PushFormat { encoding: Encoding::Json, number: None, delta };
            let message = push(&publication, format, before.as_ref());
            assert!(is_line_of_json(&message), "{}", message.escape_ascii());
            check_push(&message, &publication, delta, before.as_ref());
        }
        let message = told(Encoding::Json, payload);
        assert!(message.split(|byte| *byte == b'\n').all(is_line_of_json));
        before = Some(publication);
    }
}

/// Any bytes are commands or an error, and whatever is published makes well-formed messages.
///
/// Input: commands; at the same time payloads, parted by zeros.
pub fn centrifuge_protobuf(data: &[u8]) {
    let read = decode(Encoding::Protobuf, data);
    assert!(read.len() <= data.len(), "a command has a length");
    let mut before = None;
    for payload in payloads(data) {
        let publication = publication(payload);
        for delta in [Delta::Off, Delta::Full, Delta::Fossil] {
            let format = PushFormat { encoding: Encoding::Protobuf, number: Some(1), delta };
            let message = push(&publication, format, before.as_ref());
            let (push, behind) = framed(&message);
            assert!(behind.is_empty(), "one message");
            let differs = before.as_ref().and_then(|base| fossil::create(base.data(), payload));
            let brought = match differs {
                Some(difference) if delta == Delta::Fossil => difference,
                _ => payload.to_vec(),
            };
            assert!(brought.is_empty() || push.windows(brought.len()).any(|part| part == brought));
        }
        let message = told(Encoding::Protobuf, payload);
        let (_, behind) = framed(&message);
        assert!(framed(behind).1.is_empty(), "two messages");
        before = Some(publication);
    }
}

/// The commands before the first error; they hold no more than the message did.
fn decode(encoding: Encoding, message: &[u8]) -> Vec<Command> {
    let all: Vec<_> = commands(encoding, message, usize::MAX).collect();
    assert!(!all.is_empty(), "an empty message is an error");
    let read: Vec<_> = all.into_iter().map_while(Result::ok).collect();
    assert!(read.iter().map(held).sum::<usize>() <= message.len());
    read
}

/// The bytes that a command holds.
fn held(command: &Command) -> usize {
    match &command.request {
        Request::Connect(it) => {
            let channels = it
                .channels
                .iter()
                .map(|(channel, at)| channel.len() + at.as_ref().map_or(0, |at| at.epoch.len()));
            it.token.len() + channels.sum::<usize>()
        }
        Request::Subscribe(it) => {
            let epoch = it.resume.as_ref().map_or(0, |resume| resume.epoch.len());
            let filter = it.filter.as_ref().map_or(0, |filter| filter_held(filter, DEPTH_MAX));
            it.channel.len() + it.token.len() + it.delta.len() + epoch + filter
        }
        Request::Publish { channel: text, data } | Request::Rpc { method: text, data } => {
            text.len() + data.len()
        }
        Request::SubRefresh { channel, token } => channel.len() + token.len(),
        Request::History(it) => it.channel.len(),
        Request::Send(data) => data.len(),
        Request::Unsubscribe(text)
        | Request::Presence(text)
        | Request::PresenceStats(text)
        | Request::Refresh(text) => text.len(),
        Request::Pong | Request::Unknown => 0,
    }
}

/// The bytes that a filter holds, one at least for each node, which is at most `depth` deep.
fn filter_held(node: &FilterNode, depth: usize) -> usize {
    assert!(depth > 0, "a decoder bounds the depth");
    let texts = [&node.op, &node.key, &node.cmp, &node.val].into_iter().chain(&node.vals);
    let nodes = node.nodes.iter().map(|node| filter_held(node, depth - 1));
    1 + texts.map(String::len).sum::<usize>() + nodes.sum::<usize>()
}

/// The most levels that any decoder lets pass.
const DEPTH_MAX: usize = 100;

/// The payloads in an input; not so many that one input takes long.
fn payloads(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.splitn(12, |byte| *byte == 0)
}

fn publication(payload: &[u8]) -> Publication {
    let is_text = str::from_utf8(payload).is_ok();
    let kind = if is_text { Kind::Text } else { Kind::Binary };
    let text = String::from_utf8_lossy(payload);
    let details = Details {
        info: Some(info(payload)),
        tags: BTreeMap::from([(text.to_string(), text.to_string())]),
        allows_delta: true,
    };
    Publication::new(channel(), kind, Bytes::copy_from_slice(payload)).with_details(details)
}

fn info(payload: &[u8]) -> ClientInfo {
    let text = String::from_utf8_lossy(payload);
    let conn_info = Some(Bytes::copy_from_slice(payload));
    ClientInfo { user: "".into(), client: (&*text).into(), conn_info, chan_info: None }
}

/// A message of two events that hold `payload`.
fn told(encoding: Encoding, payload: &[u8]) -> Vec<u8> {
    let outcome = Ok(Outcome::Presence(vec![info(payload)]));
    let mut message = Vec::new();
    write_event(encoding, &Event::Reply { id: 1, outcome }, &mut message);
    write_event(encoding, &Event::Ping, &mut message);
    message
}

fn check_push(message: &[u8], publication: &Publication, delta: Delta, base: Option<&Publication>) {
    let push = field(str::from_utf8(message).expect("it is JSON"), "push").expect("a push");
    let publication_text = field(push, "pub").expect("of a publication");
    let data = field(publication_text, "data").expect("with data");
    let is_difference = field(publication_text, "delta").is_some();
    let text = text(publication.data());
    if delta == Delta::Off {
        assert_eq!((data, is_difference), (&*text, false));
        return;
    }
    let base = base.filter(|base| delta == Delta::Fossil && base.kind() == Kind::Text);
    let difference = base.and_then(|base| fossil::create_text(&self::text(base.data()), &text));
    assert_eq!(is_difference, difference.is_some());
    let string: String = serde_json::from_str(data).expect("a string");
    assert_eq!(string, difference.as_deref().unwrap_or(&text));
}

/// The JSON that stands for a payload.
fn text(payload: &[u8]) -> Cow<'_, str> {
    match serde_json::from_slice::<&RawValue>(payload) {
        Ok(json) => json.get().replace(['\r', '\n'], "").into(),
        Err(_) => serde_json::Value::from(String::from_utf8_lossy(payload)).to_string().into(),
    }
}

fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(object).expect("an object");
    fields.get(name).map(|value| value.get())
}

fn is_line_of_json(text: &[u8]) -> bool {
    let is_json = serde_json::from_slice::<&RawValue>(text).is_ok();
    is_json && !text.contains(&b'\n')
}

/// The first message and what is behind it.
fn framed(messages: &[u8]) -> (&[u8], &[u8]) {
    let last = messages.iter().position(|byte| *byte < 0x80).expect("a length ends");
    let (length, rest) = messages.split_at(last + 1);
    let low = |byte: &u8| usize::from(byte & 0x7F);
    rest.split_at(length.iter().rev().fold(0, |length, byte| length << 7 | low(byte)))
}

fn channel() -> ChannelName {
    ChannelName::new("news").expect("a name")
}
