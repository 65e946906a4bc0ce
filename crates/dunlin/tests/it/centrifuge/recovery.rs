//! Going on after a cut: `recovered` is true exactly when nothing is missing.

use serde_json::{Value, json};

use super::{each, node};
use crate::harness::{CentrifugeClient, Flock};

/// The epoch of a channel.
fn epoch(client: &mut CentrifugeClient, channel: &str) -> String {
    let epoch = client.subscribe(channel)["epoch"].as_str().unwrap().to_owned();
    client.result("unsubscribe", json!({"channel": channel}));
    epoch
}

/// Publishes these numbers one after another.
fn publish(client: &mut CentrifugeClient, channel: &str, numbers: std::ops::RangeInclusive<u64>) {
    numbers.for_each(|number| client.publish(channel, number));
}

/// Subscribes to go on behind `offset` and leaves again.
fn look(client: &mut CentrifugeClient, channel: &str, offset: u64, epoch: &str) -> Value {
    let subscribed = client.recover(channel, offset, epoch);
    client.result("unsubscribe", json!({"channel": channel}));
    assert_eq!(subscribed["was_recovering"], true, "{subscribed}");
    assert_eq!(subscribed["positioned"], true, "{subscribed}");
    assert_eq!(subscribed["recoverable"], true, "{subscribed}");
    subscribed
}

/// Everything behind `offset` up to `top` is there, and it is said so.
#[track_caller]
fn recovered(subscribed: &Value, offset: u64, top: u64) {
    assert_eq!(subscribed["recovered"], true, "{subscribed}");
    assert_eq!(subscribed["offset"].as_u64().unwrap_or_default(), offset, "{subscribed}");
    let none = Vec::new();
    let publications = subscribed["publications"].as_array().unwrap_or(&none);
    let offsets = publications.iter().map(|publication| publication["offset"].as_u64().unwrap());
    assert!(offsets.eq(offset + 1..=top), "{subscribed}");
    let same = |publication: &Value| publication["data"] == publication["offset"];
    assert!(publications.iter().all(same), "{subscribed}");
}

/// It is said that something is missing, and where it goes on.
#[track_caller]
fn begins_anew(subscribed: &Value, top: u64) {
    assert_eq!(subscribed.get("recovered"), None, "{subscribed}");
    assert_eq!(subscribed.get("publications"), None, "{subscribed}");
    assert_eq!(subscribed["offset"].as_u64().unwrap_or_default(), top, "{subscribed}");
}

#[test]
fn recovered_is_said_exactly_when_it_is_true() {
    each(&["client.recovery_max_publication_limit=8"], |flock: &Flock| {
        let mut here = CentrifugeClient::connect(flock.node(0), "42");
        let mut there = CentrifugeClient::connect(flock.node(1), "42");
        let channel = "kept:a";
        let epoch = epoch(&mut here, channel);
        recovered(&look(&mut here, channel, 0, &epoch), 0, 0);
        begins_anew(&look(&mut there, channel, 1, &epoch), 0);
        // Ten are kept, eight are given.
        publish(&mut here, channel, 1..=14);
        for client in [&mut here, &mut there] {
            // The newest first: the other node may not have heard of it, and learns of it so.
            for offset in (6..=14).rev() {
                recovered(&look(client, channel, offset, &epoch), offset, 14);
                recovered(&look(client, channel, offset, ""), offset, 14);
            }
            for offset in [0, 3, 4, 5, 15, u64::MAX] {
                begins_anew(&look(client, channel, offset, &epoch), 14);
                begins_anew(&look(client, channel, offset, ""), 14);
            }
            for other in ["0123456789abcdef", "of another server", "\u{1F426}"] {
                begins_anew(&look(client, channel, 14, other), 14);
            }
            let branch = format!("{epoch}.100000000");
            begins_anew(&look(client, channel, 14, &branch), 14);
        }
    });
}

#[test]
fn a_client_that_is_ahead_of_its_node_misses_nothing() {
    let flock = super::nodes(2, &[]);
    let mut publisher = CentrifugeClient::connect(&flock.nodes[0], "42");
    let mut reader = CentrifugeClient::connect(&flock.nodes[1], "42");
    let epoch = epoch(&mut publisher, "kept:a");
    // The reader's node knows the channel all the time.
    let mut other = CentrifugeClient::connect(&flock.nodes[1], "42");
    other.subscribe("kept:a");
    for top in 1..=200 {
        // Its answer is here before the publication is on the other node, often enough.
        publisher.publish("kept:a", top);
        recovered(&look(&mut reader, "kept:a", top, &epoch), top, top);
    }
}

#[test]
fn a_cache_brings_the_latest_unless_it_is_there() {
    each(&[], |flock| {
        let mut here = CentrifugeClient::connect(flock.node(0), "42");
        let mut there = CentrifugeClient::connect(flock.node(1), "42");
        let channel = "cache:a";
        let epoch = epoch(&mut here, channel);
        begins_anew(&look(&mut here, channel, 0, &epoch), 0);
        publish(&mut here, channel, 1..=12);
        for client in [&mut here, &mut there] {
            recovered(&look(client, channel, 12, &epoch), 12, 12);
            for (offset, of) in [(0, &*epoch), (0, ""), (3, &epoch), (11, &epoch), (12, "older")] {
                recovered(&look(client, channel, offset, of), 11, 12);
            }
            begins_anew(&look(client, channel, 13, &epoch), 12);
        }
    });
}

#[test]
fn an_error_can_be_wanted_instead_of_a_new_beginning() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let epoch = epoch(&mut client, "kept:a");
    publish(&mut client, "kept:a", 1..=12);
    let ask = |offset: u64, epoch: &str| {
        let at = json!({"offset": offset, "epoch": epoch, "recover": true, "flag": 2});
        let mut params = json!({"channel": "kept:a"});
        params.as_object_mut().unwrap().extend(at.as_object().unwrap().clone());
        params
    };
    assert_eq!(client.error("subscribe", ask(1, &epoch)), 112);
    assert_eq!(client.error("subscribe", ask(12, "other")), 112);
    assert_eq!(client.error("history", json!({"channel": "kept:a"})), 103);
    recovered(&client.result("subscribe", ask(2, &epoch)), 2, 12);
    client.result("history", json!({"channel": "kept:a"}));
}

/// The next publication behind `offset`.
#[track_caller]
fn count(offset: &mut u64, publication: &Value) {
    *offset += 1;
    assert_eq!(publication["offset"], *offset, "{publication}");
    assert_eq!(publication["data"], *offset, "{publication}");
}

#[test]
fn what_comes_between_is_neither_lost_nor_repeated() {
    each(&[], |flock| {
        let mut publisher = CentrifugeClient::connect(flock.node(0), "42");
        let mut client = CentrifugeClient::connect(flock.node(1), "42");
        let epoch = epoch(&mut client, "kept:a");
        let (mut offset, mut top) = (0, 0);
        for _ in 0..200 {
            let to = |number: u64| ("publish", json!({"channel": "kept:a", "data": number}));
            let published = publisher.pipeline(&[to(top + 1), to(top + 2)]);
            top += 2;
            let subscribed = client.recover("kept:a", offset, &epoch);
            assert_eq!(subscribed["recovered"], true, "{subscribed}");
            let none = Vec::new();
            for publication in subscribed["publications"].as_array().unwrap_or(&none) {
                count(&mut offset, publication);
            }
            // It must not fall back behind what the channel keeps.
            while offset + 4 < top {
                count(&mut offset, &client.push()["pub"]);
            }
            let id = client.pipeline(&[("unsubscribe", json!({"channel": "kept:a"}))]);
            loop {
                let next = client.next();
                match next["id"] == id {
                    true => break,
                    false => count(&mut offset, &next["push"]["pub"]),
                }
            }
            publisher.reply(published + 1);
        }
    });
}
