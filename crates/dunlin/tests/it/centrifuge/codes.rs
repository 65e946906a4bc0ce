//! Why connections end, and with which code: before the connect command, at it, after it.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{command, node};
use crate::harness::{
    CentrifugeClient, Client, Message, Node, Opcode, connect, frame, token, unix_time,
    upgrade_request, wait_until,
};

/// Sends a message on a fresh connection; it closes with 3501.
#[track_caller]
fn bad_first(node: &Node, message: &str) {
    let mut client = CentrifugeClient::open(node);
    client.send(message);
    client.expect_close(3501);
}

/// Sends a message as a client that is in; it closes with this code.
#[track_caller]
fn closes(node: &Node, message: &str, code: u16) {
    let mut client = CentrifugeClient::connect(node, "42");
    client.send(message);
    client.expect_close(code);
}

#[test]
fn the_first_command_is_connect_and_no_other_is() {
    let node = node(&[]);
    for first in [
        r#"{"id":1,"subscribe":{"channel":"c"}}"#,
        r#"{"id":1,"ping":{}}"#,
        r#"{"id":1,"rpc":{"method":"m","data":1}}"#,
        r#"{"send":{"data":1}}"#,
        "{}",
        r#"{"connect":{}}"#,
        r#"{"id":0,"connect":{}}"#,
        r#"{"id":1}"#,
    ] {
        bad_first(&node, first);
    }
    closes(&node, &json!({"id": 2, "connect": {"token": token(&json!({}))}}).to_string(), 3501);
    node.wait_until_empty();
}

#[test]
fn what_is_no_command_closes() {
    let node = node(&["limits.message_bytes=1KiB"]);
    for message in [
        "",
        "\n",
        "hello",
        "[]",
        "1",
        "{",
        r#"{"id":"2","subscribe":{}}"#,
        r#"{"id":-2,"subscribe":{}}"#,
        r#"{"id":4294967296,"subscribe":{}}"#,
        r#"{"id":2,"subscribe":{"channel":2}}"#,
        r#"{"id":2,"publish":{"channel":"c","data":}}"#,
        &json!({"id": 2, "publish": {"channel": "c", "data": "x".repeat(1024)}}).to_string(),
    ] {
        closes(&node, message, 3501);
        bad_first(&node, message);
    }
    let mut client = CentrifugeClient::connect(&node, "42");
    client.socket.send_bytes(&frame(Opcode::Text, b"\xff"));
    client.expect_close(3501);
    node.wait_until_empty();
}

#[test]
fn commands_have_rules_of_their_own() {
    let node = node(&[]);
    for (message, code) in [
        (r#"{"subscribe":{"channel":"c"}}"#, 3501),
        (r#"{"unsubscribe":{"channel":"c"}}"#, 3501),
        (r#"{"publish":{"channel":"c","data":1}}"#, 3501),
        (r#"{"history":{"channel":"c"}}"#, 3501),
        (r#"{"id":2,"ping":{}}"#, 3501),
        (r#"{"id":2}"#, 3501),
        (r#"{"id":2,"subscribe":{"channel":""}}"#, 3501),
        (r#"{"id":2,"subscribe":{"channel":"c","delta":"xdelta"}}"#, 3501),
        (r#"{"id":2,"publish":{"type":1,"channel":"c","data":1}}"#, 3501),
        (r#"{"id":2,"refresh":{}}"#, 3501),
        (r#"{"send":{"data":{}}}"#, 3508),
        // A pong that answers no ping.
        ("{}", 3501),
    ] {
        closes(&node, message, code);
    }
    let mut client = CentrifugeClient::connect(&node, "42");
    assert_eq!(client.error("rpc", json!({"method": "m", "data": 1})), 108);
    client.expect_nothing();
}

#[test]
fn what_came_before_a_mistake_is_answered() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    client.send("{\"id\":7,\"rpc\":{}}\nnonsense\n{\"id\":8,\"rpc\":{}}");
    assert_eq!(client.next()["id"], 7);
    let closed = client.socket.receive();
    assert_eq!(closed, Message::Close(3501, "bad request".to_owned()));
}

#[test]
fn every_refused_token_is_in_the_log() {
    let mut node = node(&["log.level=debug"]);
    let mut client = CentrifugeClient::open(&node);
    client.pipeline(&[("connect", json!({"token": "x"}))]);
    node.wait_for_log("connection token refused: invalid token: it has not three parts");
    let for_closed = |claims: Value| json!({"channel": "$closed:c", "token": token(&claims)});
    let of_other = json!({"sub": "43", "channel": "$closed:c"});
    let old = json!({"sub": "42", "channel": "$closed:c", "exp": unix_time(-5)});
    for (method, params, expected) in [
        ("subscribe", for_closed(json!({"sub": "42"})), "subscription token refused: invalid"),
        ("subscribe", for_closed(old), "subscription token refused: the token has expired"),
        ("subscribe", for_closed(of_other), "subscription token refused: not for this user"),
        (
            "refresh",
            json!({"token": token(&json!({"sub": "43"}))}),
            "connection token refused: not",
        ),
    ] {
        let mut client = CentrifugeClient::connect(&node, "42");
        client.pipeline(&[(method, params)]);
        node.wait_for_log(expected);
    }
}

#[test]
fn who_may_come_in() {
    let node = node(&[]);
    let no_token = r#"{"id":1,"connect":{}}"#;
    bad_first(&node, no_token);
    let good = token(&json!({"sub": "42"}));
    let forged = format!("{}x{}", &good[..good.len() - 8], &good[good.len() - 7..]);
    for bad in [&forged, "x", &token(&json!({"sub": 42}))] {
        let mut client = CentrifugeClient::open(&node);
        client.send(&json!({"id": 1, "connect": {"token": bad}}).to_string());
        client.expect_close(3500);
    }

    let mut client = CentrifugeClient::open(&node);
    let old = json!({"token": token(&json!({"sub": "42", "exp": unix_time(-5)}))});
    assert_eq!(
        client.command("connect", old)["error"],
        json!({"code": 109, "message": "token expired"})
    );
    client.pipeline(&[("connect", json!({"token": good}))]);
    client.expect_close(3501);

    let open = command(&["client.allow_anonymous_connect_without_token=true"]).start();
    let mut client = CentrifugeClient::open(&open);
    let connected = client.enter("");
    assert_eq!(connected["client"].as_str().unwrap().len(), 36, "{connected}");
    assert_eq!((&connected["ping"], &connected["pong"]), (&json!(25), &json!(true)));
    assert_eq!(connected.get("expires"), None);
}

#[test]
fn who_does_not_come_in_in_time_is_stale() {
    let node = node(&["client.stale_close_delay=1s"]);
    let mut silent = CentrifugeClient::open(&node);
    let mut stays = CentrifugeClient::connect(&node, "42");
    silent.expect_close(3502);
    stays.expect_nothing();
}

#[test]
fn who_is_not_let_in_is_told_so_and_closed_soon() {
    let node = node(&["client.stale_close_delay=1h"]);
    let mut refused = CentrifugeClient::open(&node);
    let old = json!({"token": token(&json!({"exp": unix_time(-5)}))});
    assert_eq!(refused.error("connect", old), 109);
    refused.expect_close(3502);
}

#[test]
fn a_user_has_so_many_connections() {
    let node = node(&["client.user_connection_limit=2", "shards=2"]);
    let first = CentrifugeClient::connect(&node, "42");
    let _second = CentrifugeClient::connect(&node, "42");
    let connect = json!({"id": 1, "connect": {"token": token(&json!({"sub": "42"}))}}).to_string();
    let mut third = CentrifugeClient::open(&node);
    third.send(&connect);
    third.expect_close(3504);
    let _other = CentrifugeClient::connect(&node, "43");
    drop(first);
    wait_until("there is room for one more", || {
        let mut again = CentrifugeClient::open(&node);
        again.send(&connect);
        matches!(again.socket.receive(), Message::Text(_))
    });
}

#[test]
fn a_client_has_so_many_channels() {
    let node = node(&["client.channel_limit=2"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    client.subscribe("a");
    client.subscribe("b");
    assert_eq!(client.error("subscribe", json!({"channel": "c"})), 106);
    client.result("unsubscribe", json!({"channel": "a"}));
    client.subscribe("c");

    let of = |channels: Value| token(&json!({"sub": "42", "channels": channels}));
    let mut client = CentrifugeClient::open(&node);
    client.enter(&of(json!(["a", "b"])));
    assert_eq!(client.error("subscribe", json!({"channel": "c"})), 106);
    let mut client = CentrifugeClient::open(&node);
    client.pipeline(&[("connect", json!({"token": of(json!(["a", "b", "c"]))}))]);
    client.expect_close(3505);
}

#[test]
fn clients_are_asked_whether_they_are_there() {
    let node = node(&["client.ping_interval=2s", "client.pong_timeout=1s"]);
    let mut client = CentrifugeClient::open(&node);
    let connected = client.enter(&token(&json!({"sub": "42"})));
    assert_eq!((&connected["ping"], &connected["pong"]), (&json!(2), &json!(true)));
    for _ in 0..2 {
        assert_eq!(client.next_message(), [json!({})]);
        client.send("{}");
    }
    client.expect_nothing();
    // One answer too many.
    client.send("{}");
    client.send("{}");
    client.expect_close(3501);

    let mut silent = CentrifugeClient::connect(&node, "42");
    silent.expect_close(3012);
}

#[test]
fn clients_may_want_to_be_asked_by_frames() {
    let node = node(&[
        "ws.ping_interval=2s",
        "ws.pong_timeout=1s",
        "client.ping_interval=2s",
        "client.pong_timeout=1s",
    ]);
    let mut client = CentrifugeClient::open_with(&node, "?cf_ws_frame_ping_pong=true");
    let connected = client.enter(&token(&json!({"sub": "42"})));
    assert!(connected.get("ping").is_none() && connected.get("pong").is_none(), "{connected}");
    for _ in 0..2 {
        assert_eq!(client.socket.receive_any(), Message::Ping(Vec::new()));
        client.socket.send(Opcode::Pong, b"");
    }
    client.send("{}");
    client.expect_close(3501);
}

#[test]
fn clients_name_the_protocol_or_do_not() {
    let node = node(&[]);
    for (offered, taken) in [
        ("", None),
        ("centrifuge-json", Some("centrifuge-json")),
        ("chat, centrifuge-protobuf", Some("centrifuge-protobuf")),
        ("chat", None),
    ] {
        let request = upgrade_request("/connection/websocket");
        let offer = format!("Sec-WebSocket-Protocol: {offered}\r\n\r\n");
        let request = request.strip_suffix("\r\n").unwrap().to_owned() + &offer;
        let (_, response) = Client::upgrade(connect(node.address).unwrap(), &request).unwrap();
        assert_eq!(response.header("sec-websocket-protocol"), taken, "{offered:?}");
    }
}

#[test]
fn a_node_that_leaves_says_shutdown() {
    let node = node(&["shutdown.accept_for=0s", "shutdown.drain=0s"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let mut fresh = CentrifugeClient::open(&node);
    node.signal(Signal::TERM);
    let close = Message::Close(3001, "shutdown".to_owned());
    assert_eq!(client.socket.receive(), close);
    assert_eq!(fresh.socket.receive(), close);
}
