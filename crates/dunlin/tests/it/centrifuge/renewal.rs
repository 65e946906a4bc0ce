//! What a new token changes: the channels that it names, and what others see of its client.

use std::time::Instant;

use serde_json::{Value, json};

use super::{each, node};
use crate::harness::{CentrifugeClient, Node, PATIENCE, token};

/// A client that came by a token with these channels.
fn enter(node: &Node, channels: &[&str]) -> CentrifugeClient {
    let mut client = CentrifugeClient::open(node);
    client.enter(&token(&json!({"sub": "42", "channels": channels})));
    client
}

/// A refresh by a token with these claims.
fn renewed(claims: &Value) -> Value {
    let mut all = json!({"sub": "42"});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    json!({"token": token(&all)})
}

fn refresh(client: &mut CentrifugeClient, claims: &Value) -> Value {
    client.command("refresh", renewed(claims))
}

/// The channels of so many pushes and what these say, in the order of the channels.
fn pushes(client: &mut CentrifugeClient, count: usize) -> Vec<(String, Value)> {
    let told = (0..count).map(|_| {
        let mut push = client.push();
        let channel = push.as_object_mut().unwrap().remove("channel").unwrap();
        (channel.as_str().unwrap().to_owned(), push)
    });
    let mut told = told.collect::<Vec<_>>();
    told.sort_by(|(a, _), (b, _)| a.cmp(b));
    told
}

fn ended() -> Value {
    json!({"unsubscribe": {"code": 2000, "reason": "server unsubscribe"}})
}

#[test]
fn what_a_new_token_does_not_name_ends_and_what_is_new_begins() {
    each(&["client.subscribe_to_user_personal_channel.enabled=true"], |flock| {
        let node = &flock.nodes[0];
        let mut client = enter(node, &["closed:kept", "closed:lost", "kept:lost"]);
        client.subscribe("own");
        node.result("subscribe", r#"{"user":"42","channel":"closed:order"}"#);
        assert_eq!(client.push()["channel"], "closed:order");

        let channels = ["closed:kept", "closed:won", "kept:won"];
        let reply = refresh(&mut client, &json!({"channels": channels}));
        assert!(reply.get("refresh").is_some(), "{reply}");
        let told = pushes(&mut client, 4);
        let names: Vec<_> = told.iter().map(|(channel, _)| channel.as_str()).collect();
        assert_eq!(names, ["closed:lost", "closed:won", "kept:lost", "kept:won"]);
        assert_eq!((&told[0].1, &told[2].1), (&ended(), &ended()));
        assert_eq!(told[1].1, json!({"subscribe": {}}));
        assert_eq!(told[3].1["subscribe"]["recoverable"], true);

        // What the client asked for, an order made or every user has is no matter of tokens.
        for channel in ["closed:kept", "closed:won", "kept:won", "own", "closed:order", "#42"] {
            node.result("publish", &json!({"channel": channel, "data": channel}).to_string());
            assert_eq!(client.publication(channel), channel);
        }
        for channel in ["closed:lost", "kept:lost"] {
            node.result("publish", &json!({"channel": channel, "data": channel}).to_string());
        }
        client.expect_nothing();

        refresh(&mut client, &json!({}));
        let told = pushes(&mut client, 3);
        assert!(told.iter().all(|(_, push)| *push == ended()), "{told:?}");
        client.expect_nothing();
    });
}

#[test]
fn a_new_token_that_cannot_be_followed_changes_nothing() {
    let node = node(&["client.channel_limit=3"]);
    let mut client = enter(&node, &["closed:a"]);
    let reply = refresh(&mut client, &json!({"channels": ["closed:b", "not:there"]}));
    assert_eq!(reply["error"]["code"], 102, "{reply}");
    client.expect_nothing();
    node.result("publish", r#"{"channel":"closed:a","data":1}"#);
    assert_eq!(client.publication("closed:a"), 1);

    // Room that goes is room for what comes.
    client.subscribe("x");
    client.subscribe("y");
    refresh(&mut client, &json!({"channels": ["closed:b"]}));
    assert_eq!(pushes(&mut client, 2)[0], ("closed:a".to_owned(), ended()));
    // It finds room when it comes again: these are the first.
    let channels = json!({"channels": ["closed:b", "closed:c"]});
    client.pipeline(&[("refresh", renewed(&channels))]);
    client.expect_close(3010);

    let mut client = enter(&node, &[]);
    let channels = json!({"channels": ["closed:a", "closed:b", "closed:c", "closed:d"]});
    client.pipeline(&[("refresh", renewed(&channels))]);
    client.expect_close(3505);
}

/// What presence shows of the one client in a channel.
fn seen(node: &Node, channel: &str) -> Value {
    let presence = node.result("presence", &json!({"channel": channel}).to_string());
    let members = presence["presence"].as_object().unwrap();
    assert_eq!(members.len(), 1, "{presence}");
    let member = members.values().next().unwrap();
    json!([member["conn_info"], member["chan_info"]])
}

/// Asks until presence shows this: it is told without anybody waiting for it.
#[track_caller]
fn wait_until_seen(node: &Node, channel: &str, expected: &Value) {
    let deadline = Instant::now() + PATIENCE;
    while seen(node, channel) != *expected {
        assert!(Instant::now() < deadline, "{} for {expected}", seen(node, channel));
    }
}

#[test]
fn others_see_what_was_said_last() {
    each(&[], |flock| {
        let mut watcher = CentrifugeClient::connect(flock.node(1), "43");
        let mut client = CentrifugeClient::open(&flock.nodes[0]);
        let by = |conn: u64, chan: u64| {
            let subs = json!({"seen:a": {"info": chan}});
            json!({"sub": "42", "info": conn, "subs": subs})
        };
        client.enter(&token(&by(1, 2)));
        let node = flock.node(1);
        wait_until_seen(node, "seen:a", &json!([1, 2]));
        refresh(&mut client, &by(3, 4));
        wait_until_seen(node, "seen:a", &json!([3, 4]));
        // A token that says nothing changes nothing.
        refresh(&mut client, &json!({"subs": {"seen:a": {}}}));
        node.result("refresh", r#"{"user":"42","info":5}"#);
        wait_until_seen(node, "seen:a", &json!([5, 4]));

        let named = |info: u64| token(&json!({"sub": "42", "channel": "seen:b", "info": info}));
        let params = |info| json!({"channel": "seen:b", "token": named(info)});
        client.command("subscribe", params(6));
        wait_until_seen(node, "seen:b", &json!([5, 6]));
        client.command("sub_refresh", params(7));
        wait_until_seen(node, "seen:b", &json!([5, 7]));

        watcher.subscribe("seen:b");
        assert_eq!(watcher.push()["join"]["info"]["user"], "43");
        client.socket.close();
        let left = watcher.push();
        let info = &left["leave"]["info"];
        assert_eq!((&info["conn_info"], &info["chan_info"]), (&json!(5), &json!(7)), "{left}");
    });
}
