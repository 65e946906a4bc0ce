//! Coming and going in a hurry: whoever is subscribed hears what is published, whoever else leaves.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::each;
use crate::harness::{CentrifugeClient, Node};

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
