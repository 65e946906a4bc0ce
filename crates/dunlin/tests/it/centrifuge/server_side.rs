//! Subscriptions that the application makes: by the token of a connection, and by orders.

use std::thread;

use serde_json::{Map, Value, json};

use super::{each, node};
use crate::harness::{CentrifugeClient, Node, token};

#[test]
fn a_client_is_told_of_its_subscriptions_with_the_reply() {
    let node = node(&["client.subscribe_to_user_personal_channel.enabled=true"]);
    let mut client = CentrifugeClient::open(&node);
    let subs = json!({"kept:a": {"data": {"hello": 1}}, "c": {}});
    let connected = client.enter(&token(&json!({"sub": "42", "subs": subs})));
    let subs = connected["subs"].as_object().unwrap();
    assert!(subs.keys().eq(["#42", "c", "kept:a"]), "{connected}");
    assert_eq!((&subs["c"], &subs["#42"]), (&json!({}), &json!({})));
    let kept = &subs["kept:a"];
    assert_eq!((&kept["data"], &kept["recoverable"]), (&json!({"hello": 1}), &json!(true)));

    client.publish("kept:a", 1);
    assert_eq!(client.publication("kept:a"), 1);
    let resume = json!({"recover": true, "offset": 0, "epoch": kept["epoch"]});
    let mut again = CentrifugeClient::open(&node);
    let token = token(&json!({"sub": "42", "channels": ["kept:a"]}));
    let connect = json!({"token": token, "subs": {"kept:a": resume, "c": {"recover": true}}});
    let connected = again.result("connect", connect);
    let kept = &connected["subs"]["kept:a"];
    assert_eq!((&kept["recovered"], &kept["publications"][0]["data"]), (&json!(true), &json!(1)));
    // It may enter the other one by itself.
    let subs = connected["subs"].as_object().unwrap();
    assert!(subs.keys().eq(["#42", "c", "kept:a"]), "{connected}");
}

#[test]
fn a_client_may_begin_in_channels_that_it_may_enter() {
    let node = node(&["client.channel_limit=4"]);
    let published = json!({"channel": "kept:a", "data": 1}).to_string();
    let epoch = node.result("publish", &published)["epoch"].clone();
    let enter = |subs: Value| {
        let mut client = CentrifugeClient::open(&node);
        let connect = json!({"token": token(&json!({"sub": "42"})), "subs": subs});
        client.pipeline(&[("connect", connect)]);
        client
    };
    let resume = json!({"recover": true, "offset": 0, "epoch": epoch});
    // What it may not enter, what is not there and what cannot be is passed over: a client that
    // was subscribed by the application asks for it again when it comes back.
    let others = ["closed:a", "$c", "not:there", "#42", "users:#43", ""];
    let mut subs: Map<String, Value> =
        others.into_iter().map(|name| (name.to_owned(), json!({}))).collect();
    subs.extend([("kept:a".to_owned(), resume), ("seen:a".to_owned(), json!({}))]);
    subs.insert("users:#42".to_owned(), json!({}));
    let mut client = enter(subs.into());
    let connected = client.next()["connect"].take();
    let subs = connected["subs"].as_object().unwrap();
    assert!(subs.keys().eq(["kept:a", "seen:a", "users:#42"]), "{connected}");
    let kept = &subs["kept:a"];
    assert_eq!((&kept["recovered"], &kept["publications"][0]["data"]), (&json!(true), &json!(1)));
    assert_eq!(client.push()["join"]["info"]["user"], "42");
    client.publish("kept:a", 2);
    assert_eq!(client.publication("kept:a"), 2);
    // They are the client's own: a token has nothing to say of them.
    client.result("refresh", json!({"token": token(&json!({"sub": "42"}))}));
    client.publish("kept:a", 3);
    assert_eq!(client.publication("kept:a"), 3);

    let too_many = ["a", "b", "c", "d", "e"].map(|name| (name.to_owned(), json!({})));
    enter(Map::from_iter(too_many).into()).expect_close(3505);
}

#[test]
fn one_channel_that_cannot_be_had_fails_the_connect() {
    let node = node(&[]);
    let mut watcher = CentrifugeClient::connect(&node, "43");
    watcher.subscribe("seen:a");
    watcher.push();
    let mut client = CentrifugeClient::open(&node);
    let token = token(&json!({"sub": "42", "channels": ["seen:a", "not:there"]}));
    assert_eq!(client.error("connect", json!({"token": token})), 102);
    client.pipeline(&[("subscribe", json!({"channel": "c"}))]);
    client.expect_close(3501);
    // Nobody came, so nobody leaves.
    watcher.expect_nothing();
}

#[test]
fn the_application_subscribes_and_unsubscribes() {
    each(&[], |flock| {
        let mut client = CentrifugeClient::connect(flock.node(1), "42");
        let mut other = CentrifugeClient::connect(flock.node(1), "43");
        let node = flock.node(0);
        node.result("subscribe", r#"{"user":"42","channel":"closed:c","data":"welcome"}"#);
        let told = json!({"channel": "closed:c", "subscribe": {"data": "welcome"}});
        assert_eq!(client.push(), told);
        node.result("publish", r#"{"channel":"closed:c","data":1}"#);
        assert_eq!(client.publication("closed:c"), 1);
        node.result("unsubscribe", r#"{"user":"42","channel":"closed:c"}"#);
        let unsubscribed = json!({"code": 2000, "reason": "server unsubscribe"});
        assert_eq!(client.push(), json!({"channel": "closed:c", "unsubscribe": unsubscribed}));
        node.result("publish", r#"{"channel":"closed:c","data":2}"#);
        client.expect_nothing();
        other.expect_nothing();
        node.result("disconnect", r#"{"user":"42"}"#);
        client.expect_close(3503);
    });
}

#[test]
fn who_is_subscribed_from_a_position_gets_what_came_behind_it() {
    each(&[], |flock| {
        let node = &flock.nodes[0];
        let publish = |number: u64| {
            let body = json!({"channel": "kept:a", "data": number}).to_string();
            node.result("publish", &body)["epoch"].as_str().unwrap().to_owned()
        };
        let [_, _, epoch] = [1, 2, 3].map(publish);
        let mut client = CentrifugeClient::connect(node, "42");
        let since = json!({"offset": 1, "epoch": epoch});
        let body = json!({"user": "42", "channel": "kept:a", "recover_since": since});
        node.result("subscribe", &body.to_string());
        let told = client.push();
        assert_eq!(told["subscribe"]["offset"], 1, "{told}");
        publish(4);
        for number in 2..=4 {
            assert_eq!(client.publication("kept:a"), number);
        }
        client.expect_nothing();
    });
}

/// Connects again and again, each time with new channels, while the application unsubscribes the
/// user from all there are: every connect is answered, and every channel accounted for.
#[test]
fn who_is_unsubscribed_while_it_connects_is_in_all_the_same() {
    each(&[], |flock| {
        let node = &flock.nodes[0];
        thread::scope(|scope| {
            let clients = scope.spawn(|| (0..200).for_each(|number| connect_anew(node, number)));
            while !clients.is_finished() {
                node.result("unsubscribe", r#"{"user":"42"}"#);
            }
        });
    });
}

fn connect_anew(node: &Node, number: usize) {
    let channels = ["a", "b", "c"].map(|name| format!("kept:{name}{number}"));
    let mut client = CentrifugeClient::open(node);
    let connected = client.enter(&token(&json!({"sub": "42", "channels": channels})));
    assert_eq!(connected["subs"].as_object().unwrap().len(), 3, "{connected}");
    for _ in channels {
        let push: Value = client.push();
        assert_eq!(push["unsubscribe"]["code"], 2000, "{push}");
    }
}

#[test]
fn recovered_publications_are_those_that_are_wanted() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let first = client.subscribe("tags:a");
    client.result("unsubscribe", json!({"channel": "tags:a"}));
    for (data, tag) in [("1", "no"), ("2", "yes"), ("3", "no")] {
        let body = json!({"channel": "tags:a", "data": data, "tags": {"wanted": tag}});
        node.result("publish", &body.to_string());
    }
    let wanted = json!({"key": "wanted", "cmp": "eq", "val": "yes"});
    let subscribed = client.result(
        "subscribe",
        json!({"channel": "tags:a", "recover": true, "epoch": first["epoch"], "tf": wanted}),
    );
    assert_eq!(subscribed["recovered"], true);
    let publications = subscribed["publications"].as_array().unwrap();
    assert_eq!(publications.len(), 1, "{subscribed}");
    assert_eq!(publications[0]["data"], "2");
    for (data, tag) in [("4", "no"), ("5", "yes")] {
        let body = json!({"channel": "tags:a", "data": data, "tags": {"wanted": tag}});
        node.result("publish", &body.to_string());
    }
    assert_eq!(client.publication("tags:a"), "5");
}
