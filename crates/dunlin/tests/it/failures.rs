//! What callers of the HTTP API are told when a call fails: which field is wrong, which channel
//! lacks what, and what is wrong with Redis.

use serde_json::{Value, json};

use crate::harness::{Flock, KEY_SETTING, Node, wait_until};

/// Code and message of the error of a call.
#[track_caller]
fn failure(node: &Node, method: &str, body: &Value) -> (u64, String) {
    let error = &node.call(method, &body.to_string())["error"];
    let message = error["message"].as_str().unwrap_or_else(|| panic!("{method} {body} went well"));
    (error["code"].as_u64().unwrap(), message.to_owned())
}

#[test]
fn what_is_wrong_with_a_call_is_told() {
    let node = Node::start(&[KEY_SETTING]);
    let milliseconds = 1_900_000_000_000_u64;
    let long = "x".repeat(256);
    for (method, body, code, message) in [
        ("publish", json!({"data": 1}), 107, "bad request: channel: a channel name is 1 to 255"),
        ("publish", json!({"channel": "c"}), 107, "bad request: data: it is missing"),
        ("publish", json!({"channel": "c", "b64data": "%"}), 107, "bad request: b64data: "),
        ("publish", json!({"channel": "c", "b64data": ""}), 107, "allow_empty_data"),
        ("publish", json!({"channel": "no:c", "data": 1}), 102, "the namespace of no:c is not in"),
        ("broadcast", json!({"data": 1}), 107, "bad request: channels: "),
        ("subscribe", json!({"channel": "c"}), 107, "bad request: user: it is missing"),
        ("subscribe", json!({"user": "4"}), 107, "bad request: channel: "),
        ("subscribe", json!({"user": "4", "channel": "c", "b64info": "?"}), 107, "info: "),
        ("disconnect", json!({"user": "4", "disconnect": {"code": 7}}), 107, "disconnect.code: "),
        (
            "disconnect",
            json!({"user": "4", "disconnect": {"reason": long}}),
            107,
            "disconnect.reason: expected at most 123 bytes",
        ),
        ("presence", json!({"channel": "c"}), 108, "not available: c has no presence"),
        ("history", json!({"channel": "c"}), 108, "not available: c has no history"),
        ("revoke_token", json!({}), 107, "bad request: uid: "),
        ("invalidate_user_tokens", json!({"user": "4", "channel": "c"}), 108, "all channels"),
        ("channels", json!({"pattern": long}), 107, "bad request: pattern: "),
        ("connections", json!({"expression": "true"}), 108, "an expression"),
        ("rpc", json!({}), 107, "bad request: method: "),
        ("rpc", json!({"method": "m"}), 108, "no extensions"),
        ("refresh", json!({"user": "4", "expire_at": milliseconds}), 107, "in milliseconds"),
        ("revoke_token", json!({"uid": "j", "expire_at": milliseconds}), 107, "in milliseconds"),
        (
            "invalidate_user_tokens",
            json!({"user": "4", "issued_before": milliseconds}),
            107,
            "bad request: issued_before: it is in milliseconds",
        ),
        (
            "subscribe",
            json!({"user": "4", "channel": "c", "expire_at": milliseconds}),
            107,
            "bad request: expire_at: it is in milliseconds",
        ),
    ] {
        let (told, words) = failure(&node, method, &body);
        assert_eq!(told, code, "{method} {body}: {words}");
        assert!(words.contains(message), "{method} {body}: {words}");
    }
    let body = json!({"channels": ["c", "no:c"], "data": 1}).to_string();
    let responses = node.result("broadcast", &body)["responses"].take();
    let words = responses[1]["error"]["message"].as_str().unwrap();
    assert!(words.contains("the namespace of no:c"), "{words}");
}

#[test]
fn what_is_wrong_with_redis_is_told() {
    let flock = Flock::redis(1, &[KEY_SETTING, "redis.queue_age=1s"]);
    let node = flock.node(0);
    let mut admin = flock.redis.as_ref().unwrap().connect();
    redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).exec(&mut admin).unwrap();
    wait_until("it is not ready", || node.status_of("/ready") == 503);
    let (code, words) = failure(node, "publish", &json!({"channel": "c", "data": 1}));
    assert_eq!(code, 100, "{words}");
    assert!(words.contains("refuses what is published: OOM"), "{words}");
    let body = json!({"channels": ["c"], "data": 1}).to_string();
    let responses = node.result("broadcast", &body)["responses"].take();
    let words = responses[0]["error"]["message"].as_str().unwrap();
    assert!(words.contains("refuses what is published: OOM"), "{words}");
}
