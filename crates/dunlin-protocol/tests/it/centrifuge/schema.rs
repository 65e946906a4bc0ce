//! Reads replies by the schema of the protocol, with code of its own: Protobuf becomes the JSON
//! that says the same. In JSON some fields are there also when they are zero or empty, because SDKs
//! read them without asking: here they are `Always` what they hold.

use serde_json::{Map, Value};

/// The fields of a message: number, name in JSON, and what they hold.
pub(crate) type Schema = &'static [(u64, &'static str, Holds)];

#[derive(Clone, Copy)]
pub(crate) enum Holds {
    Number,
    Flag,
    Text,
    /// Any bytes in Protobuf, a JSON value in JSON.
    Data,
    One(Schema),
    Many(Schema),
    /// Values by texts, as the field 2 of entries that have their key as the field 1.
    Map(&'static [(u64, &'static str, Self); 1]),
    /// The same, and JSON says it also when it is zero or empty.
    Always(&'static Self),
}

use self::Holds::{Always, Data, Flag, Many, Number, One, Text};

impl Holds {
    /// What is held, and what JSON has of it that Protobuf leaves out.
    fn unwrap(self) -> (Self, Option<Value>) {
        let Always(it) = self else { return (self, None) };
        let zero = match it {
            Number => Value::from(0),
            Text => Value::from(""),
            Many(_) => Value::Array(Vec::new()),
            Self::Map(_) => Value::Object(Map::new()),
            Flag | Data | One(_) | Always(_) => panic!("nobody relies on it"),
        };
        (*it, Some(zero))
    }
}

pub(crate) const REPLY: Schema = &[
    (1, "id", Number),
    (2, "error", One(ERROR)),
    (4, "push", One(PUSH)),
    (5, "connect", One(CONNECT_RESULT)),
    (6, "subscribe", One(SUBSCRIBE_RESULT)),
    (7, "unsubscribe", One(&[])),
    (8, "publish", One(&[])),
    (9, "presence", One(PRESENCE_RESULT)),
    (10, "presence_stats", One(PRESENCE_STATS_RESULT)),
    (11, "history", One(HISTORY_RESULT)),
    (14, "refresh", One(REFRESH_RESULT)),
    (15, "sub_refresh", One(&[(1, "expires", Flag), (2, "ttl", Number)])),
];

const PRESENCE_RESULT: Schema =
    &[(1, "presence", Always(&Holds::Map(&[(2, "", One(CLIENT_INFO))])))];

const PRESENCE_STATS_RESULT: Schema =
    &[(1, "num_clients", Always(&Number)), (2, "num_users", Always(&Number))];

const ERROR: Schema = &[(1, "code", Number), (2, "message", Text), (3, "temporary", Flag)];

const PUSH: Schema = &[
    (1, "id", Number),
    (2, "channel", Text),
    (4, "pub", One(PUBLICATION)),
    (5, "join", One(&[(1, "info", One(CLIENT_INFO))])),
    (6, "leave", One(&[(1, "info", One(CLIENT_INFO))])),
    (7, "unsubscribe", One(&[(2, "code", Number), (3, "reason", Text)])),
    (9, "subscribe", One(SUBSCRIBE)),
    (12, "refresh", One(&[(1, "expires", Flag), (2, "ttl", Number)])),
];

const CONNECT_RESULT: Schema = &[
    (1, "client", Text),
    (2, "version", Text),
    (3, "expires", Flag),
    (4, "ttl", Number),
    (6, "subs", Holds::Map(&[(2, "", One(SUBSCRIBE_RESULT))])),
    (7, "ping", Number),
    (8, "pong", Flag),
];

const SUBSCRIBE_RESULT: Schema = &[
    (1, "expires", Flag),
    (2, "ttl", Number),
    (3, "recoverable", Flag),
    (6, "epoch", Text),
    (7, "publications", Many(PUBLICATION)),
    (8, "recovered", Flag),
    (9, "offset", Number),
    (10, "positioned", Flag),
    (11, "data", Data),
    (12, "was_recovering", Flag),
    (13, "delta", Flag),
    (14, "id", Number),
];

const SUBSCRIBE: Schema = &[
    (1, "recoverable", Flag),
    (4, "epoch", Text),
    (5, "offset", Number),
    (6, "positioned", Flag),
    (7, "data", Data),
];

const HISTORY_RESULT: Schema = &[
    (1, "publications", Always(&Many(PUBLICATION))),
    (2, "epoch", Always(&Text)),
    (3, "offset", Always(&Number)),
];

/// The first two were the client's id and the server's version; nobody writes them any more.
const REFRESH_RESULT: Schema = &[(3, "expires", Flag), (4, "ttl", Number)];

const PUBLICATION: Schema = &[
    (4, "data", Data),
    (5, "info", One(CLIENT_INFO)),
    (6, "offset", Number),
    (7, "tags", Holds::Map(&[(2, "", Text)])),
    (8, "delta", Flag),
    (14, "epoch", Text),
];

const CLIENT_INFO: Schema = &[
    (1, "user", Always(&Text)),
    (2, "client", Always(&Text)),
    (3, "conn_info", Data),
    (4, "chan_info", Data),
];

/// The replies of a Protobuf message.
pub(crate) fn replies(mut message: &[u8]) -> Vec<Value> {
    let mut replies = Vec::new();
    while !message.is_empty() {
        replies.push(read(REPLY, bytes(&mut message)));
    }
    replies
}

/// A message of the schema.
fn read(schema: Schema, mut message: &[u8]) -> Value {
    let always = |field: &(u64, &str, Holds)| Some((field.1.to_owned(), field.2.unwrap().1?));
    let mut object: Map<String, Value> = schema.iter().filter_map(always).collect();
    while !message.is_empty() {
        let (number, wire_type) = key(&mut message);
        let field = schema.iter().find(|field| field.0 == number);
        let (_, name, holds) = *field.unwrap_or_else(|| panic!("no field {number}"));
        let slot = object.entry(name).or_insert(Value::Null);
        match (wire_type, holds.unwrap().0) {
            (0, Number) => *slot = varint(&mut message).into(),
            (0, Flag) => *slot = (varint(&mut message) == 1).into(),
            (2, Text) => *slot = str::from_utf8(bytes(&mut message)).unwrap().into(),
            (2, Data) => *slot = serde_json::from_slice(bytes(&mut message)).unwrap(),
            (2, One(schema)) => *slot = read(schema, bytes(&mut message)),
            (2, Many(schema)) => {
                let mut items = slot.as_array().cloned().unwrap_or_default();
                items.push(read(schema, bytes(&mut message)));
                *slot = items.into();
            }
            (2, Holds::Map(value)) => {
                let mut entries = slot.as_object().cloned().unwrap_or_default();
                let mut entry = bytes(&mut message);
                assert_eq!(key(&mut entry), (1, 2));
                let name = str::from_utf8(bytes(&mut entry)).unwrap();
                let value = read(value, entry)[""].take();
                assert_eq!(entries.insert(name.to_owned(), value), None, "keys differ");
                *slot = entries.into();
            }
            (wire_type, _) => panic!("{name} has the wire type {wire_type}"),
        }
    }
    object.into()
}

fn key(rest: &mut &[u8]) -> (u64, u64) {
    let key = varint(rest);
    (key >> 3, key & 7)
}

fn bytes<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let length = varint(rest) as usize;
    rest.split_off(..length).unwrap()
}

fn varint(rest: &mut &[u8]) -> u64 {
    let byte = *rest.split_off_first().unwrap();
    let low = u64::from(byte & 0x7F);
    if byte < 0x80 { low } else { low | varint(rest) << 7 }
}
