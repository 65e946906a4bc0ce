//! Subscribing: who may, what is answered, and what a subscription can do.

use serde_json::{Value, json};

use super::{command, each, node};
use crate::harness::{CentrifugeClient, token, unix_time};

/// `params` for `channel`.
fn with(channel: &str, params: &Value) -> Value {
    let mut all = json!({"channel": channel});
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    all
}

/// Subscribes and leaves again.
#[track_caller]
fn look(client: &mut CentrifugeClient, params: Value) -> Value {
    let channel = json!({"channel": params["channel"]});
    let subscribed = client.result("subscribe", params);
    client.result("unsubscribe", channel);
    subscribed
}

#[test]
fn who_may_not_is_told_why() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let long = "x".repeat(256);
    for (channel, code) in [
        ("not:there", 102),
        ("$not:there", 102),
        ("closed:c", 103),
        ("$c", 103),
        ("users:#43", 103),
        ("#42", 103),
        ("\u{e9}", 107),
        ("a\nb", 107),
        (&long, 107),
        ("$ctl.nodes", 107),
    ] {
        assert_eq!(client.error("subscribe", json!({"channel": channel})), code, "{channel:?}");
    }
    client.subscribe(&long[1..]);
    client.subscribe("users:#42");
    assert_eq!(client.error("subscribe", json!({"channel": "users:#42"})), 105);
    for kind in 1..5 {
        assert_eq!(client.error("subscribe", json!({"channel": "c", "type": kind})), 103);
    }
    client.expect_nothing();
}

#[test]
fn an_anonymous_client_enters_what_is_open_to_everyone() {
    let node = command(&["client.allow_anonymous_connect_without_token=true"]).start();
    let mut client = CentrifugeClient::open(&node);
    client.enter("");
    assert_eq!(client.error("subscribe", json!({"channel": "c"})), 103);
    assert_eq!(client.error("subscribe", json!({"channel": "users:#"})), 103);
    client.subscribe("everyone:c");
    let token = token(&json!({"sub": "", "channel": "$closed:c"}));
    client.result("subscribe", json!({"channel": "$closed:c", "token": token}));
}

#[test]
fn a_token_opens_its_channel_to_its_user() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let good = json!({"sub": "42", "channel": "$closed:c"});
    for (token, code) in [
        ("x".to_owned(), 103),
        (format!("{}x", token(&good)), 103),
        (token(&json!({"sub": "42"})), 103),
        (token(&json!({"sub": "42", "channel": "$closed:c", "exp": unix_time(-1)})), 109),
        (token(&json!({"sub": "42", "channel": "$closed:c", "expire_at": unix_time(-1)})), 109),
    ] {
        let params = json!({"channel": "$closed:c", "token": token});
        assert_eq!(client.error("subscribe", params), code, "{token}");
    }
    let params = json!({"channel": "$closed:c", "token": token(&good)});
    assert_eq!(client.result("subscribe", params.clone()), json!({}));
    // No token opens what is not there.
    let params = json!({"channel": "not:there", "token": params["token"]});
    assert_eq!(client.error("subscribe", params), 102);
    for other in
        [json!({"sub": "43", "channel": "$closed:c"}), json!({"sub": "42", "channel": "c"})]
    {
        let mut client = CentrifugeClient::connect(&node, "42");
        let params = json!({"channel": "$closed:c", "token": token(&other)});
        client.pipeline(&[("subscribe", params)]);
        client.expect_close(3500);
    }
}

#[test]
fn a_subscription_is_what_its_channel_allows() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let both = json!({"positioned": true, "recoverable": true});
    let flags = |subscribed: &Value| {
        ["positioned", "recoverable"].map(|flag| subscribed[flag].as_bool().unwrap_or_default())
    };
    for (params, expected) in [
        (with("c", &both), [false, false]),
        (with("wish:c", &json!({})), [false, false]),
        (with("wish:c", &json!({"positioned": true})), [true, false]),
        (with("wish:c", &json!({"recoverable": true})), [true, true]),
        (with("kept:c", &json!({})), [true, true]),
    ] {
        let subscribed = look(&mut client, params.clone());
        assert_eq!(flags(&subscribed), expected, "{params}: {subscribed}");
        assert_eq!(subscribed.get("epoch").is_some(), expected[0], "{params}: {subscribed}");
    }
    let token = |name: &str, value: bool| {
        let overrides = json!({name: {"value": value}});
        let claims = json!({"sub": "42", "channel": "wish:c", "override": overrides});
        json!({"token": token(&claims)})
    };
    for (name, expected) in [("force_positioning", [true, false]), ("force_recovery", [true, true])]
    {
        let subscribed = look(&mut client, with("wish:c", &token(name, true)));
        assert_eq!(flags(&subscribed), expected, "{name}: {subscribed}");
        let subscribed = look(&mut client, with("wish:c", &token(name, false)));
        assert_eq!(flags(&subscribed), [false, false], "{name}: {subscribed}");
    }
}

#[test]
fn a_number_can_stand_for_the_name() {
    each(&[], |flock| {
        let mut named = CentrifugeClient::connect(&flock.nodes[0], "42");
        assert_eq!(named.subscribe("kept:a").get("id"), None);
        let mut client = CentrifugeClient::connect(&flock.nodes[0], "42");
        let mut number = |channel: &str| {
            let subscribed = client.result("subscribe", json!({"channel": channel, "flag": 1}));
            subscribed["id"].as_u64().unwrap()
        };
        let (first, second) = (number("kept:a"), number("b"));
        assert_ne!(first, second);
        named.publish("kept:a", 1);
        let push = client.push();
        assert_eq!((&push["id"], push.get("channel")), (&json!(first), None), "{push}");
        assert_eq!(named.publication("kept:a"), 1);
        named.publish("b", 2);
        let push = client.push();
        assert_eq!((&push["id"], &push["pub"]["data"]), (&json!(second), &json!(2)), "{push}");
    });
}
