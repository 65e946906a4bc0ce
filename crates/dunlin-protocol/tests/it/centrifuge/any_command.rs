//! Any command, for properties.

use bytes::Bytes;
use dunlin_core::{
    command::{Command, Connect, History, Request, Resume, Subscribe},
    filter::FilterNode,
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};
use serde_json::Value;

/// Any command that a client can send.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    (any::<u32>(), request()).prop_map(|(id, request)| match request {
        // A pong is an empty command, so it has no number.
        Request::Pong => Command { id: 0, request },
        request => Command { id, request },
    })
}

fn request() -> impl Strategy<Value = Request> {
    let text = || any::<String>();
    prop_oneof![
        connect().prop_map(|it| Request::Connect(Box::new(it))),
        subscribe().prop_map(|it| Request::Subscribe(Box::new(it))),
        text().prop_map(Request::Unsubscribe),
        (text(), json()).prop_map(|(channel, data)| Request::Publish { channel, data }),
        text().prop_map(Request::Presence),
        text().prop_map(Request::PresenceStats),
        history().prop_map(|it| Request::History(Box::new(it))),
        (text(), json()).prop_map(|(method, data)| Request::Rpc { method, data }),
        json().prop_map(Request::Send),
        text().prop_map(Request::Refresh),
        (text(), text()).prop_map(|(channel, token)| Request::SubRefresh { channel, token }),
        Just(Request::Pong),
    ]
}

fn connect() -> impl Strategy<Value = Connect> {
    let channels = btree_map(any::<String>(), option::of(resume()), 0..3);
    (any::<String>(), channels)
        .prop_map(|(token, channels)| Connect { token, channels: channels.into_iter().collect() })
}

prop_compose! {
    fn subscribe()(
        [channel, token, delta]: [String; 3],
        resume in option::of(resume()),
        [positioned, recoverable, join_leave]: [bool; 3],
        filter in option::of(filter()),
        flag: i64,
        kind: i32,
    ) -> Subscribe {
        Subscribe {
            channel, token, resume, positioned, recoverable, join_leave, delta, filter, flag, kind,
        }
    }
}

prop_compose! {
    fn history()(
        channel: String,
        limit: i32,
        since in option::of(resume()),
        is_reverse: bool,
    ) -> History {
        History { channel, limit, since, is_reverse }
    }
}

fn resume() -> impl Strategy<Value = Resume> {
    (any::<u64>(), any::<String>()).prop_map(|(offset, epoch)| Resume { offset, epoch })
}

fn filter() -> impl Strategy<Value = FilterNode> {
    let leaf = (any::<[String; 4]>(), vec(any::<String>(), 0..3)).prop_map(|(texts, vals)| {
        let [op, key, cmp, val] = texts;
        FilterNode { op, key, cmp, val, vals, nodes: Vec::new() }
    });
    leaf.prop_recursive(5, 20, 3, |inner| {
        (any::<String>(), vec(inner, 0..4)).prop_map(|(op, nodes)| FilterNode {
            op,
            nodes,
            ..FilterNode::default()
        })
    })
}

/// A JSON text.
pub(crate) fn json() -> impl Strategy<Value = Bytes> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        let object = btree_map(any::<String>(), inner.clone(), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|object| object.into_iter().collect::<Value>()),
        ]
    });
    value.prop_map(|value| value.to_string().into())
}
