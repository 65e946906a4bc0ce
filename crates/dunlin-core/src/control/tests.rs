//! Messages survive as text, and texts of others are refused or skipped.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    auth::claims::{Overrides, SubscriptionOptions},
    command::Resume,
};

fn message(body: Body) -> Message {
    let id = MessageId { node: NodeId::new(0xd0), number: 7 };
    Message { id, sent_at_ms: 1_700_000_000_000, body }
}

#[track_caller]
fn check(body: Body) {
    let message = message(body);
    let text = message.to_text();
    assert_eq!(Message::parse(text.as_bytes()), Ok(message), "{text}");
}

fn whom(client: Option<&str>) -> Whom {
    Whom { user: "42".into(), client: client.map(Into::into) }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

#[test]
fn orders_survive_as_text() {
    let json = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    for order in [
        Order::Disconnect(Disconnect {
            whom: whom(None),
            whitelist: vec!["a".into(), "b".into()],
            code: 4000,
            reason: "say \"no\"".into(),
        }),
        Order::Unsubscribe(Unsubscribe { whom: whom(Some("c")), channel: Some(channel("news")) }),
        Order::Unsubscribe(Unsubscribe { whom: whom(None), channel: None }),
        Order::Subscribe(Box::new(Subscribe {
            whom: whom(None),
            channel: channel("#42"),
            options: SubscriptionOptions {
                info: json(r#"{"a":1e5}"#),
                data: json("null"),
                overrides: Overrides { presence: Some(false), ..Overrides::default() },
            },
            expire_at: Some(9),
            recover_since: Some(Resume { offset: u64::MAX, epoch: "e".to_owned() }),
        })),
        Order::Subscribe(Box::new(Subscribe {
            whom: whom(None),
            channel: channel("c"),
            options: SubscriptionOptions::default(),
            expire_at: None,
            recover_since: None,
        })),
        Order::Refresh(Refresh {
            whom: whom(None),
            expired: true,
            expire_at: None,
            info: json("[1]"),
        }),
        Order::RevokeToken { id: "t".into(), until: Some(5) },
        Order::RevokeUser { user: "42".into(), issued_before: 4, until: None },
    ] {
        check(Body::Order(order));
    }
}

#[test]
fn surveys_survive_as_text() {
    check(Body::Received { to: MessageId { node: NodeId::new(7), number: 3 }, count: 8 });
    for revoked in [None, Some(3)] {
        let (name, version) = ("a".to_owned(), "1".to_owned());
        check(Body::Alive(Introduction { name, version, revoked, layout: Some(2) }));
    }
    check(Body::Left {});
    check(Body::Question(Question::Node {}));
    check(Body::Question(Question::Channels { pattern: Glob::new("news:*").unwrap() }));
    check(Body::Question(Question::Connections { user: None }));
    check(Body::Question(Question::Top { by: Measure::Owed, limit: 3 }));
    for part in [
        Part::Channels(vec![(channel("a"), 1), (channel("b"), 2)]),
        Part::Connections(vec![ConnectionReport {
            client: "c".into(),
            user: "".into(),
            protocol: "json".into(),
            channels: vec![channel("a")],
        }]),
        Part::Top(vec![TopReport {
            connection: "0-1-2".into(),
            client: "c".into(),
            user: "".into(),
            address: "::1".into(),
            dialect: "plain".into(),
            age_s: 1,
            used_us: 2,
            owed_bytes: 3,
            channels: 4,
        }]),
    ] {
        let to = MessageId { node: NodeId::new(1), number: 2 };
        check(Body::Answer(Answer { to, number: 3, is_last: false, part }));
    }
}

#[test]
fn what_newer_nodes_say_is_skipped() {
    let read = |text: &str| Message::parse(text.as_bytes());
    let newer = r#"{"id":"00000000000000d0.7","time":1,"body":{"dance":{"with":[1]}},"more":1}"#;
    assert_eq!(read(newer), Err(Unreadable::UnknownKind));
    let order = r#"{"id":"00000000000000d0.7","time":1,"body":{"order":{"dance":{}}}}"#;
    assert_eq!(read(order), Err(Unreadable::UnknownKind));
    let richer = r#"{"id":"00000000000000d0.7","time":1,"more":1,
        "body":{"order":{"revoke_token":{"id":"t","more":{}}}}}"#;
    let order = Order::RevokeToken { id: "t".into(), until: None };
    assert_eq!(read(richer).unwrap().body, Body::Order(order));
    for malformed in ["", "{}", "[]", r#"{"id":"x","time":1,"body":{"left":{}}}"#] {
        assert_eq!(read(malformed), Err(Unreadable::Malformed), "{malformed}");
    }
    assert_eq!(read(&" ".repeat(MESSAGE_BYTES_MAX + 1)), Err(Unreadable::Malformed));
    let own = r#"{"id":"00000000000000d0.7","time":1,
        "body":{"order":{"unsubscribe":{"whom":{"user":"42"},"channel":"$ctl.all"}}}}"#;
    assert_eq!(read(own), Err(Unreadable::UnknownKind), "the nodes' own channels are out of reach");
}

#[test]
fn an_order_is_for_those_it_names() {
    assert!(whom(None).includes("42", "a"));
    assert!(!whom(None).includes("43", "a"));
    assert!(whom(Some("a")).includes("42", "a"));
    assert!(!whom(Some("a")).includes("42", "b"));
    let disconnect = Disconnect {
        whom: whom(None),
        whitelist: vec!["a".into()],
        code: 3503,
        reason: "force disconnect".into(),
    };
    assert!(!disconnect.includes("42", "a"));
    assert!(disconnect.includes("42", "b"));
}

proptest! {
    #[test]
    fn any_text_has_a_verdict(text in ".{0,200}") {
        let _ = Message::parse(text.as_bytes());
    }
}
