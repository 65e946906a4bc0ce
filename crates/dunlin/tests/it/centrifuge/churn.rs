//! Coming and going in a hurry: whoever is subscribed hears what is published, whoever else leaves.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::each;
use crate::harness::{
    CentrifugeClient, Flock, Message, Node, Opcode, Redis, frame, token, unix_time, wait_until,
};

/// How long clients come and go.
const TIME: Duration = Duration::from_secs(3);

/// Enters the channel, publishes, hears it, leaves; again and again.
fn come_and_go(node: &Node, channel: &str, name: usize) {
    let until = Instant::now() + TIME;
    let mut client = CentrifugeClient::connect(node, "42");
    for number in 0.. {
        if Instant::now() > until {
            return;
        }
        client.subscribe(channel);
        let own = json!([name, number]);
        client.publish(channel, own.clone());
        while client.publication(channel) != own {}
        client.pipeline(&[("unsubscribe", json!({"channel": channel}))]);
        // What came before its reply is not for the next time.
        while client.next().get("unsubscribe").is_none() {}
    }
}

#[test]
fn who_is_subscribed_hears_it_whoever_leaves() {
    for channel in ["b", "kept:a"] {
        each(&["shards=1"], |flock| {
            thread::scope(|scope| {
                for name in 0..8 {
                    scope.spawn(move || come_and_go(flock.node(name), channel, name));
                }
            });
        });
    }
}

/// Does what comes to mind, on one connection after another, and takes whatever comes of it.
fn wander(node: &Node, until: Instant) {
    while Instant::now() < until {
        let mut client = CentrifugeClient::open(node);
        let channels = ["seen:a", "kept:a", "wish:b"][..fastrand::usize(..4)].to_vec();
        client.pipeline(&[("connect", json!({"token": enter(&channels)}))]);
        for _ in 0..fastrand::usize(..20) {
            let channel = fastrand::choice(["seen:a", "kept:a", "wish:a", "wish:b", "c"]).unwrap();
            let (recover, flag) = (fastrand::bool(), fastrand::u8(..4));
            let (method, more) = match fastrand::u8(..8) {
                0..3 => ("subscribe", json!({"recover": recover, "flag": flag, "offset": 3})),
                3..5 => ("unsubscribe", json!({})),
                5 => ("publish", json!({"data": 1})),
                6 => ("history", json!({"limit": 3})),
                _ => ("presence", json!({})),
            };
            let mut params = json!({"channel": channel});
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let line = json!({"id": fastrand::u32(1..), method: params}).to_string();
            if client.socket.try_send_bytes(&frame(Opcode::Text, line.as_bytes())).is_err() {
                break;
            }
            while fastrand::bool() && !client.socket.is_silent_for(Duration::from_millis(2)) {
                if let Message::Close(..) | Message::End = client.socket.receive() {
                    break;
                }
            }
        }
    }
}

/// A token of user 42 with these server-side subscriptions, which now and then runs out soon.
fn enter(channels: &[&str]) -> String {
    let expire_at = if fastrand::bool() { unix_time(1) } else { 0 };
    token(&json!({"sub": "42", "channels": channels, "expire_at": expire_at}))
}

/// Orders of the application, and accidents of Redis.
fn disturb(flock: &Flock, until: Instant) {
    let mut redis = flock.redis.as_ref().map(Redis::connect);
    while Instant::now() < until {
        let node = flock.node(fastrand::usize(..8));
        let channel = fastrand::choice(["seen:a", "kept:a", "wish:b"]).unwrap();
        let body = json!({"user": "42", "channel": channel}).to_string();
        match fastrand::u8(..40) {
            // Refused while Redis is away.
            0 => drop(node.call("disconnect", r#"{"user":"42"}"#)),
            1..8 => drop(node.call("unsubscribe", &body)),
            8..15 => drop(node.call("subscribe", &body)),
            15 => redis.iter_mut().for_each(|redis| redis::cmd("FLUSHALL").exec(redis).unwrap()),
            16 => redis.iter_mut().for_each(|redis| {
                let mut kill = redis::cmd("CLIENT");
                kill.arg("KILL").arg("TYPE").arg("pubsub").exec(redis).unwrap();
            }),
            _ => drop(node.call("publish", &json!({"channel": channel, "data": 2}).to_string())),
        }
    }
}

#[test]
fn nothing_is_left_of_those_who_come_and_go() {
    let settings =
        ["client.expired_close_delay=0s", "client.stale_close_delay=2s", "client.channel_limit=4"];
    each(&settings, |flock| {
        let until = Instant::now() + TIME;
        thread::scope(|scope| {
            scope.spawn(|| disturb(flock, until));
            for number in 0..6 {
                scope.spawn(move || wander(flock.node(number), until));
            }
        });
        for node in &flock.nodes {
            node.wait_until_empty();
            wait_until("no channel is kept", || node.metrics().sum("dunlin_channels") == 0.0);
            for channel in ["seen:a", "wish:a", "wish:b"] {
                let body = json!({"channel": channel}).to_string();
                wait_until("nobody is present", || {
                    node.call("presence", &body)["result"]["presence"] == json!({})
                });
            }
        }
        // And everything works as before.
        let mut client = CentrifugeClient::connect(flock.node(0), "42");
        client.subscribe("kept:a");
        flock.node(1).result("publish", r#"{"channel":"kept:a","data":"after"}"#);
        while client.publication("kept:a") != "after" {}
    });
}
