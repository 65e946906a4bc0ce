//! Tokens whose time runs out, of connections and of subscriptions, and the new ones that come.

use std::time::Instant;

use serde_json::{Value, json};

use super::node;
use crate::harness::{A_LITTLE, CentrifugeClient, Message, Node, PATIENCE, token, unix_time};

/// A client that is in until `expire_at`.
fn enter_until(node: &Node, expire_at: i64) -> CentrifugeClient {
    let mut client = CentrifugeClient::open(node);
    let connected = client.enter(&token(&json!({"sub": "42", "exp": expire_at})));
    assert_eq!(connected["expires"], true);
    let ttl = connected["ttl"].as_i64().unwrap();
    assert!(ttl >= 1 && ttl <= expire_at - unix_time(-1), "{connected}");
    client
}

/// A token for the channel `closed:c`.
fn channel_token(claims: &Value) -> String {
    let mut all = json!({"sub": "42", "channel": "closed:c"});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    token(&all)
}

/// Keeps a client busy until it is closed or hears what is no reply; returns that.
fn stay_busy(client: &mut CentrifugeClient) -> Message {
    let channel = json!({"channel": "busy"});
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        client.pipeline(&[("subscribe", channel.clone()), ("unsubscribe", channel.clone())]);
        while !client.socket.is_silent_for(A_LITTLE / 4) {
            match client.socket.receive() {
                Message::Text(text) if !text.contains("push") => {}
                other => return other,
            }
        }
    }
    panic!("it stayed");
}

#[test]
fn an_expired_connection_is_closed_after_a_grace_whatever_it_does() {
    let node = node(&["client.expired_close_delay=2s"]);
    let expire_at = unix_time(2);
    let mut client = enter_until(&node, expire_at);
    assert_eq!(stay_busy(&mut client), Message::Close(3005, "connection expired".to_owned()));
    let late = unix_time(0) - expire_at;
    assert!((2..=4).contains(&late), "closed after {late} s");
}

#[test]
fn a_connection_goes_on_by_a_new_token() {
    let node = node(&["client.expired_close_delay=0s"]);
    let mut client = enter_until(&node, unix_time(2));
    let new = json!({"token": token(&json!({"sub": "42", "exp": unix_time(3600)}))});
    let refreshed = client.result("refresh", new);
    assert_eq!(refreshed["expires"], true);
    assert!(refreshed["ttl"].as_i64().unwrap() > 3500, "{refreshed}");
    let mut other = enter_until(&node, unix_time(2));
    other.expect_close(3005);
    client.expect_nothing();
    let never = client.result("refresh", json!({"token": token(&json!({"sub": "42"}))}));
    assert!(never.get("expires").is_none() && never.get("ttl").is_none(), "{never}");
}

/// It is 109, after which SDKs fetch another token, and not 3500, after which they stay away.
#[test]
fn a_token_that_is_not_good_yet_is_refused_like_one_that_is_over() {
    let node = node(&["client.token.leeway=2s"]);
    let not_before = |ahead| token(&json!({"sub": "42", "nbf": unix_time(ahead)}));
    CentrifugeClient::open(&node).enter(&not_before(1));
    let mut early = CentrifugeClient::open(&node);
    assert_eq!(early.error("connect", json!({"token": not_before(60)})), 109);
    let mut client = CentrifugeClient::connect(&node, "42");
    let token = channel_token(&json!({"nbf": unix_time(60)}));
    let params = json!({"channel": "closed:c", "token": token});
    assert_eq!(client.error("subscribe", params), 109);
}

#[test]
fn a_bad_new_token_ends_a_connection() {
    let node = node(&[]);
    for (token, code) in [
        (token(&json!({"sub": "43"})), 3500),
        (token(&json!({"sub": "42", "channel": "c"})), 3500),
        ("x".to_owned(), 3500),
        (String::new(), 3501),
        (token(&json!({"sub": "42", "exp": unix_time(-1)})), 3005),
        (token(&json!({"sub": "42", "nbf": unix_time(60)})), 3005),
    ] {
        let mut client = enter_until(&node, unix_time(60));
        client.pipeline(&[("refresh", json!({"token": token}))]);
        client.expect_close(code);
    }
}

#[test]
fn an_expired_subscription_ends_after_a_grace_whatever_its_client_does() {
    let node = node(&["client.expired_sub_close_delay=1s"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let expire_at = unix_time(2);
    let token = channel_token(&json!({"exp": expire_at}));
    let subscribed = client.result("subscribe", json!({"channel": "closed:c", "token": token}));
    assert_eq!(subscribed["expires"], true);
    let Message::Text(push) = stay_busy(&mut client) else { panic!("it was closed") };
    let late = unix_time(0) - expire_at;
    assert!((1..=3).contains(&late), "ended after {late} s");
    let unsubscribed = json!({"code": 2501, "reason": "subscription expired"});
    let push: Value = serde_json::from_str(push.lines().last().unwrap()).unwrap();
    assert_eq!(push["push"], json!({"channel": "closed:c", "unsubscribe": unsubscribed}));
    let token = channel_token(&json!({}));
    let again = client.result("subscribe", json!({"channel": "closed:c", "token": token}));
    assert_eq!(again, json!({}));
}

#[test]
fn a_subscription_of_the_application_ends_with_its_client() {
    let node = node(&["client.expired_sub_close_delay=0s"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let body = json!({"user": "42", "channel": "closed:c", "expire_at": unix_time(2)});
    node.result("subscribe", &body.to_string());
    assert_eq!(client.push()["subscribe"], json!({}));
    client.expect_close(3006);
}

#[test]
fn the_application_says_how_long_a_client_may_stay() {
    let node = node(&["client.expired_close_delay=0s"]);
    let mut stays = enter_until(&node, unix_time(3));
    let mut goes = CentrifugeClient::connect(&node, "43");
    let refresh = |user: &str, more: Value| {
        let mut body = json!({"user": user});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node.result("refresh", &body.to_string());
    };
    refresh("42", json!({"expire_at": unix_time(3600)}));
    let told = stays.push();
    let ttl = told["refresh"]["ttl"].as_i64().unwrap();
    assert!(told["refresh"]["expires"] == true && (3590..=3600).contains(&ttl), "{told}");
    refresh("43", json!({"expire_at": unix_time(4)}));
    assert_eq!(goes.push()["refresh"]["expires"], true);
    goes.expect_close(3005);
    stays.expect_nothing();
    refresh("42", json!({}));
    assert_eq!(stays.push(), json!({"refresh": {}}));
    refresh("42", json!({"expired": true}));
    stays.expect_close(3005);
}

#[test]
fn a_subscription_goes_on_by_a_new_token() {
    let node = node(&["client.expired_sub_close_delay=0s"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let token = channel_token(&json!({"exp": unix_time(2)}));
    client.result("subscribe", json!({"channel": "closed:c", "token": token}));
    let new = channel_token(&json!({"exp": unix_time(3600)}));
    let refreshed = client.result("sub_refresh", json!({"channel": "closed:c", "token": new}));
    assert!(refreshed["ttl"].as_i64().unwrap() > 3500, "{refreshed}");

    let mut other = CentrifugeClient::connect(&node, "42");
    let token = channel_token(&json!({"exp": unix_time(2)}));
    other.result("subscribe", json!({"channel": "closed:c", "token": token}));
    assert_eq!(other.push()["unsubscribe"]["code"], 2501);
    client.expect_nothing();
}

#[test]
fn a_bad_new_token_for_a_subscription() {
    let node = node(&[]);
    let subscribed = || {
        let mut client = CentrifugeClient::connect(&node, "42");
        let token = channel_token(&json!({"exp": unix_time(60)}));
        client.result("subscribe", json!({"channel": "closed:c", "token": token}));
        client
    };
    let mut client = subscribed();
    let refresh = |channel: &str, token: &str| json!({"channel": channel, "token": token});
    let old = channel_token(&json!({"exp": unix_time(-1)}));
    let early = channel_token(&json!({"nbf": unix_time(60)}));
    for (params, code) in [
        (refresh("closed:d", &channel_token(&json!({}))), 103),
        (refresh("", "x"), 107),
        (refresh("closed:c", ""), 107),
        (refresh("closed:c", &old), 109),
        (refresh("closed:c", &early), 109),
    ] {
        assert_eq!(client.error("sub_refresh", params.clone()), code, "{params}");
    }
    for claims in [json!({"sub": "43"}), json!({"channel": "closed:d"})] {
        let mut client = subscribed();
        client.pipeline(&[("sub_refresh", refresh("closed:c", &channel_token(&claims)))]);
        client.expect_close(3500);
    }
}
