//! The other side: what a client does to write commands and to read replies.

use bytes::Bytes;
use dunlin_core::{
    command::{Command, Request, Resume, Subscribe},
    filter::FilterNode,
    publication::Encoding,
};
use serde_json::Value;

use self::Holds::{Data, Flag, Many, Map, One, Signed, Text, Texts, Unsigned};

/// A field of a request: its number, its name and what it holds.
struct Field(u64, &'static str, Holds);

enum Holds {
    Unsigned(u64),
    Signed(i64),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Data(Bytes),
    One(Vec<Field>),
    Many(Vec<Vec<Field>>),
    Map(Vec<(String, Vec<Field>)>),
}

/// The message that a client sends for these commands.
pub(crate) fn message_of(encoding: Encoding, commands: &[Command]) -> Vec<u8> {
    let commands = commands.iter().map(command);
    match encoding {
        Encoding::Json => {
            let lines: Vec<_> = commands.map(|fields| json(fields).to_string()).collect();
            lines.join("\n").into_bytes()
        }
        Encoding::Protobuf => commands.flat_map(|fields| framed(&protobuf(fields))).collect(),
    }
}

fn command(command: &Command) -> Vec<Field> {
    let text = |number, name, text: &str| Field(number, name, Text(text.to_owned()));
    let channel = |channel| One(vec![text(1, "channel", channel)]);
    let request = match &command.request {
        Request::Connect(it) => {
            let sub = |(channel, at): &(String, Option<Resume>)| {
                (channel.clone(), at.iter().flat_map(recover).collect())
            };
            let subs = Map(it.channels.iter().map(sub).collect());
            let fields = vec![text(1, "token", &it.token), Field(3, "subs", subs)];
            Field(4, "connect", One(fields))
        }
        Request::Subscribe(it) => Field(5, "subscribe", One(subscribe(it))),
        Request::Unsubscribe(it) => Field(6, "unsubscribe", channel(it)),
        Request::Publish { channel, data } => {
            let data = Field(2, "data", Data(data.clone()));
            Field(7, "publish", One(vec![text(1, "channel", channel), data]))
        }
        Request::Presence(it) => Field(8, "presence", channel(it)),
        Request::PresenceStats(it) => Field(9, "presence_stats", channel(it)),
        Request::History(it) => {
            let limit = Field(7, "limit", Signed(it.limit.into()));
            let mut fields = vec![text(1, "channel", &it.channel), limit];
            fields.extend(it.since.as_ref().map(|since| Field(8, "since", One(position(since)))));
            fields.push(Field(9, "reverse", Flag(it.is_reverse)));
            Field(10, "history", One(fields))
        }
        Request::Send(data) => Field(12, "send", One(vec![Field(1, "data", Data(data.clone()))])),
        Request::Rpc { method, data } => {
            let data = Field(1, "data", Data(data.clone()));
            Field(13, "rpc", One(vec![data, text(2, "method", method)]))
        }
        Request::Refresh(token) => Field(14, "refresh", One(vec![text(1, "token", token)])),
        Request::SubRefresh { channel, token } => {
            let fields = vec![text(1, "channel", channel), text(2, "token", token)];
            Field(15, "sub_refresh", One(fields))
        }
        Request::Pong => return Vec::new(),
        Request::Unknown => panic!("a client sends what it knows"),
    };
    vec![Field(1, "id", Unsigned(command.id.into())), request]
}

fn subscribe(it: &Subscribe) -> Vec<Field> {
    let mut fields = vec![
        Field(1, "channel", Text(it.channel.clone())),
        Field(2, "token", Text(it.token.clone())),
        Field(9, "positioned", Flag(it.positioned)),
        Field(10, "recoverable", Flag(it.recoverable)),
        Field(11, "join_leave", Flag(it.join_leave)),
        Field(12, "delta", Text(it.delta.clone())),
        Field(14, "flag", Signed(it.flag)),
        Field(15, "type", Signed(it.kind.into())),
    ];
    fields.extend(it.resume.iter().flat_map(recover));
    fields.extend(it.filter.as_ref().map(|node| Field(13, "tf", One(filter(node)))));
    fields
}

fn recover(at: &Resume) -> [Field; 3] {
    [
        Field(3, "recover", Flag(true)),
        Field(6, "epoch", Text(at.epoch.clone())),
        Field(7, "offset", Unsigned(at.offset)),
    ]
}

fn position(at: &Resume) -> Vec<Field> {
    vec![Field(1, "offset", Unsigned(at.offset)), Field(2, "epoch", Text(at.epoch.clone()))]
}

fn filter(node: &FilterNode) -> Vec<Field> {
    vec![
        Field(1, "op", Text(node.op.clone())),
        Field(2, "key", Text(node.key.clone())),
        Field(3, "cmp", Text(node.cmp.clone())),
        Field(4, "val", Text(node.val.clone())),
        Field(5, "vals", Texts(node.vals.clone())),
        Field(6, "nodes", Many(node.nodes.iter().map(filter).collect())),
    ]
}

fn json(fields: Vec<Field>) -> Value {
    let value = |holds| match holds {
        Unsigned(it) => it.into(),
        Signed(it) => it.into(),
        Flag(it) => it.into(),
        Text(it) => it.into(),
        Texts(it) => it.into(),
        Data(it) => serde_json::from_slice(&it).unwrap(),
        One(it) => json(it),
        Many(it) => it.into_iter().map(json).collect(),
        Map(it) => it.into_iter().map(|(key, fields)| (key, json(fields))).collect(),
    };
    fields.into_iter().map(|Field(_, name, holds)| (name, value(holds))).collect()
}

fn protobuf(fields: Vec<Field>) -> Vec<u8> {
    let write = |Field(tag, _, holds)| match holds {
        Unsigned(it) => number(tag, it),
        Signed(it) => number(tag, it.cast_unsigned()),
        Flag(it) => number(tag, it.into()),
        Text(it) => text(tag, &it),
        Texts(it) => it.iter().flat_map(|it| text(tag, it)).collect(),
        Data(it) => message(tag, &it),
        One(it) => message(tag, &protobuf(it)),
        Many(it) => it.into_iter().flat_map(|it| message(tag, &protobuf(it))).collect(),
        Map(it) => {
            let entry =
                |(key, it): (String, _)| [text(1, &key), message(2, &protobuf(it))].concat();
            it.into_iter().flat_map(|it| message(tag, &entry(it))).collect()
        }
    };
    fields.into_iter().flat_map(write).collect()
}

/// A Protobuf field that is a number or a boolean.
pub(crate) fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

/// A Protobuf field that is text.
pub(crate) fn text(tag: u64, value: &str) -> Vec<u8> {
    message(tag, value.as_bytes())
}

/// A Protobuf field that is a message or any bytes.
pub(crate) fn message(tag: u64, value: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), framed(value)].concat()
}

/// A Protobuf message behind its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [varint(message.len() as u64), message.to_vec()].concat()
}

fn varint(value: u64) -> Vec<u8> {
    let low = (value & 0x7F) as u8;
    match value >> 7 {
        0 => vec![low],
        rest => [vec![low | 0x80], varint(rest)].concat(),
    }
}

/// A subscribe command with a filter that is nested that deep, in both encodings.
pub(crate) fn nested_filter(depth: usize) -> [(Encoding, Vec<u8>); 2] {
    let mut json = "{}".to_owned();
    let mut protobuf = Vec::new();
    for _ in 1..depth {
        json = format!(r#"{{"op":"not","nodes":[{json}]}}"#);
        protobuf = [text(1, "not"), message(6, &protobuf)].concat();
    }
    let json = format!(r#"{{"id":1,"subscribe":{{"channel":"c","tf":{json}}}}}"#);
    let request = [text(1, "c"), message(13, &protobuf)].concat();
    let protobuf = framed(&[number(1, 1), message(5, &request)].concat());
    [(Encoding::Json, json.into_bytes()), (Encoding::Protobuf, protobuf)]
}
