//! Dialects meet: plain, JSON and Protobuf clients in one channel; differences and filters.

use serde_json::{Value, json};

use super::{each, node};
use crate::harness::{CentrifugeClient, Client, Message, Node, token};

/// Connects by Protobuf and subscribes to a channel.
fn protobuf(node: &Node, channel: &str) -> Client {
    let mut client = Client::open(node.address, "/connection/websocket?cf_protocol=protobuf");
    let token = token(&json!({"sub": "42"}));
    let connect = field(4, &field(1, token.as_bytes()));
    let subscribe = field(5, &field(1, channel.as_bytes()));
    let id = |id: u8| vec![8, id];
    let commands = [[id(1), connect].concat(), [id(2), subscribe].concat()];
    client.send_binary(&commands.map(delimited).concat());
    for _ in 0..2 {
        let Message::Binary(replies) = client.receive() else { panic!("not Protobuf") };
        assert!(!replies.is_empty());
        if holds(&replies, &[8, 2]) {
            break;
        }
    }
    client
}

/// A Protobuf field that has a length.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], delimited(value.to_vec())].concat()
}

/// A Protobuf message behind its length.
fn delimited(message: Vec<u8>) -> Vec<u8> {
    let length = message.len();
    let length = match length {
        0..128 => vec![length as u8],
        _ => vec![length as u8 | 0x80, u8::try_from(length >> 7).unwrap()],
    };
    [length, message].concat()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The next push, which brings this payload.
#[track_caller]
fn brings(client: &mut Client, data: &[u8]) {
    let Message::Binary(push) = client.receive() else { panic!("not Protobuf") };
    assert!(holds(&push, &field(4, data)), "{data:?} is not in {push:?}");
}

#[test]
fn what_one_publishes_all_get_in_their_own_way() {
    each(&[], |flock| {
        let mut plain = flock.node(1).join("kept:a");
        let mut json = CentrifugeClient::connect(flock.node(0), "42");
        json.subscribe("kept:a");
        let mut protobuf = protobuf(flock.node(1), "kept:a");

        plain.send_text("{\"a\": [1,\n2]}");
        assert_eq!(plain.receive_text(), "{\"a\": [1,\n2]}");
        assert_eq!(json.publication("kept:a"), json!({"a": [1, 2]}));
        brings(&mut protobuf, b"{\"a\": [1,\n2]}");

        plain.send_text("no \"json\"");
        assert_eq!(plain.receive_text(), "no \"json\"");
        assert_eq!(json.publication("kept:a"), "no \"json\"");
        brings(&mut protobuf, b"no \"json\"");

        plain.send_binary(b"\xff\x00");
        assert_eq!(plain.receive(), Message::Binary(b"\xff\x00".to_vec()));
        brings(&mut protobuf, b"\xff\x00");

        json.publish("kept:a", json!({"b": "ä"}));
        assert_eq!(json.publication("kept:a"), json!({"b": "ä"}));
        assert_eq!(plain.receive_text(), "{\"b\":\"ä\"}");
        brings(&mut protobuf, "{\"b\":\"ä\"}".as_bytes());

        let publish = [vec![8, 3], field(7, &[field(1, b"kept:a"), field(2, b"\xfe")].concat())];
        protobuf.send_binary(&delimited(publish.concat()));
        assert_eq!(plain.receive(), Message::Binary(b"\xfe".to_vec()));
        json.publish("kept:a", "last");
        let push = json.push();
        assert_eq!((&push["pub"]["data"], &push["pub"]["offset"]), (&json!("last"), &json!(6)));
    });
}

/// To those who read JSON no bytes are an empty text.
#[test]
fn null_is_a_payload_and_no_bytes_are_one_where_that_is_allowed() {
    each(&[], |flock| {
        let mut plain = flock.node(1).join("kept:a");
        let mut json = CentrifugeClient::connect(flock.node(0), "42");
        json.subscribe("kept:a");
        let mut protobuf = protobuf(flock.node(1), "kept:a");
        json.publish("kept:a", Value::Null);
        assert_eq!(plain.receive_text(), "null");
        assert_eq!(json.publication("kept:a"), Value::Null);
        brings(&mut protobuf, b"null");

        let publish = |channel: &str| {
            let publish = field(7, &field(1, channel.as_bytes()));
            delimited([vec![8, 3], publish].concat())
        };
        protobuf.send_binary(&publish("kept:a"));
        assert_eq!(plain.receive_text(), "");
        assert_eq!(json.publication("kept:a"), "");
        assert_eq!(json.error("publish", json!({"channel": "kept:a"})), 107);

        let mut elsewhere = self::protobuf(flock.node(0), "c");
        elsewhere.send_binary(&publish("c"));
        let Message::Binary(reply) = elsewhere.receive() else { panic!("not Protobuf") };
        assert!(holds(&reply, b"bad request"), "{reply:?}");
    });
}

#[test]
fn binary_is_recovered_by_those_who_can_read_it() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let epoch = client.subscribe("kept:a")["epoch"].as_str().unwrap().to_owned();
    client.result("unsubscribe", json!({"channel": "kept:a"}));
    node.result("publish", r#"{"channel":"kept:a","b64data":"/w=="}"#);
    node.result("publish", r#"{"channel":"kept:a","data":"text"}"#);
    let subscribed = client.recover("kept:a", 0, &epoch);
    assert_eq!(subscribed["recovered"], true);
    let publications = subscribed["publications"].as_array().unwrap();
    assert_eq!(publications.len(), 1, "{subscribed}");
    assert_eq!((&publications[0]["data"], &publications[0]["offset"]), (&json!("text"), &json!(2)));
}

#[test]
fn plain_clients_do_not_hear_who_comes_and_goes() {
    each(&[], |flock| {
        let mut plain = flock.node(1).join("seen:a");
        let mut client = CentrifugeClient::connect(flock.node(0), "42");
        client.subscribe("seen:a");
        assert_eq!(client.push()["join"]["info"]["user"], "42");
        plain.send_text("1");
        assert_eq!(plain.receive_text(), "1");
        assert_eq!(client.publication("seen:a"), 1);
        client.result("unsubscribe", json!({"channel": "seen:a"}));
        plain.send_text("2");
        assert_eq!(plain.receive_text(), "2");
    });
}

#[test]
fn a_filter_lets_through_what_is_wanted() {
    each(&[], |flock| {
        let mut client = CentrifugeClient::connect(flock.node(1), "42");
        let filter = |node: Value| json!({"channel": "tags:a", "tf": node, "delta": "fossil"});
        let wrong = json!({"key": "n", "cmp": "is", "val": "1"});
        assert_eq!(client.error("subscribe", filter(wrong)), 107);
        let elsewhere = json!({"channel": "c", "tf": {"key": "n", "cmp": "ex"}});
        assert_eq!(client.error("subscribe", elsewhere), 103);
        let few = json!({"key": "n", "cmp": "lt", "val": "10"});
        let not_five = json!({"op": "not", "nodes": [{"key": "n", "cmp": "eq", "val": "5"}]});
        client.result("subscribe", filter(json!({"op": "and", "nodes": [few, not_five]})));
        let mut all = CentrifugeClient::connect(flock.node(1), "42");
        all.subscribe("tags:a");
        for number in [1, 12, 5, 2] {
            let tags = json!({"n": number.to_string()});
            let body = json!({"channel": "tags:a", "data": number, "tags": tags});
            flock.node(0).result("publish", &body.to_string());
            assert_eq!(all.publication("tags:a"), number);
        }
        assert_eq!([(); 2].map(|()| client.publication("tags:a")), [1, 2]);
        client.expect_nothing();
    });
}
