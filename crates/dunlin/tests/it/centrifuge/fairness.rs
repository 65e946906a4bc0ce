//! Fairness: what one client causes waits behind the others, and what it is owed has a bound.

use serde_json::{Value, json};

use super::node;
use crate::harness::{
    CentrifugeClient, Client, Node, Opcode, connect_with_little_room, frame, token,
    upgrade_request, wait_until,
};

/// A client that takes a few KiB before it reads.
fn with_little_room(node: &Node) -> CentrifugeClient {
    let request = upgrade_request("/connection/websocket");
    let (socket, _) = Client::upgrade(connect_with_little_room(node.address), &request).unwrap();
    let mut client = CentrifugeClient::on(socket);
    client.enter(&token(&json!({"sub": "42"})));
    client
}

/// Fills the history of `kept:large` with 400 KB.
fn publish_much(node: &Node) {
    let mut publisher = CentrifugeClient::connect(node, "42");
    for _ in 0..10 {
        publisher.publish("kept:large", "x".repeat(40_000));
    }
}

fn history() -> (&'static str, Value) {
    ("history", json!({"channel": "kept:large", "limit": -1}))
}

/// What is answered in one go is one message.
#[test]
fn a_message_of_many_commands_is_done_in_turns() {
    let node = node(&["limits.message_bytes=2MiB"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    client.pipeline(&vec![("rpc", json!({"method": "no", "data": 1})); 20_000]);
    let (mut messages, mut replies) = (0, 0);
    while replies < 20_000 {
        replies += client.next_message().iter().filter(|reply| reply.get("id").is_some()).count();
        messages += 1;
    }
    assert!(messages > 1, "nobody else had a turn");
    // In order and whole: what comes behind it, too.
    assert_eq!(client.error("rpc", json!({"method": "no", "data": 1})), 108);
}

#[test]
fn who_asks_for_much_and_reads_late_gets_it() {
    let node = node(&["limits.backlog_bytes=64KiB"]);
    publish_much(&node);
    let mut client = with_little_room(&node);
    client.subscribe("kept:large");
    let first = client.pipeline(&vec![history(); 100]);
    wait_until("more waits than it took", || node.metrics().sum("dunlin_backlog_bytes") > 0.0);
    let mut reader = CentrifugeClient::connect(&node, "42");
    reader.publish("kept:other", 1);
    let owed = node.metrics().sum("dunlin_backlog_bytes");
    assert!(owed < 5.0 * 400_000.0, "{owed} bytes wait for one client");
    for id in first..first + 100 {
        let reply = client.reply(id);
        assert_eq!(reply["history"]["publications"].as_array().map(Vec::len), Some(10));
    }
}

#[test]
fn what_is_missed_in_many_channels_comes_as_it_is_read() {
    let node = node(&["limits.backlog_bytes=64KiB"]);
    let channels: Vec<_> = (0..20).map(|number| format!("kept:{number}")).collect();
    let mut publisher = CentrifugeClient::connect(&node, "42");
    let mut epochs = Vec::new();
    for channel in &channels {
        let epoch = publisher.subscribe(channel)["epoch"].as_str().unwrap().to_owned();
        (0..10).for_each(|_| publisher.publish(channel, "x".repeat(20_000)));
        epochs.push(epoch);
    }
    let mut client = with_little_room(&node);
    let commands: Vec<_> = channels
        .iter()
        .zip(&epochs)
        .map(|(channel, epoch)| {
            let asked = json!({"channel": channel, "recover": true, "offset": 0, "epoch": epoch});
            ("subscribe", asked)
        })
        .collect();
    let first = client.pipeline(&commands);
    wait_until("more waits than it took", || node.metrics().sum("dunlin_backlog_bytes") > 0.0);
    for id in first..first + 20 {
        let subscribed = client.reply(id);
        assert_eq!(subscribed["subscribe"]["recovered"], true);
        let missed = subscribed["subscribe"]["publications"].as_array().map(Vec::len);
        assert_eq!(missed, Some(10));
    }
}

/// The largest debtors pay first, the last one never: any single answer must pass.
#[test]
fn all_that_do_not_read_are_owed_no_more_than_the_node_may_owe() {
    let node = node(&["limits.private_bytes=1MiB", "shards=1"]);
    publish_much(&node);
    let mut all: Vec<_> = (0..6).map(|_| with_little_room(&node)).collect();
    for client in &mut all {
        client.subscribe("kept:large");
        client.pipeline(&[history()]);
    }
    wait_until("some are closed", || node.metrics().closed("slow_reader") > 0.0);
    wait_until("the others are owed little", || {
        node.metrics().sum("dunlin_backlog_bytes") <= f64::from(1 << 20)
    });
    let mut reader = CentrifugeClient::connect(&node, "42");
    reader.subscribe("kept:large");
    let (method, params) = history();
    assert_eq!(reader.result(method, params)["publications"].as_array().map(Vec::len), Some(10));
}

/// Memory follows what arrives, so what has arrived of messages that never end is bounded as well.
#[test]
fn all_that_begin_a_message_hold_no_more_than_the_node_may_keep() {
    let node = node(&["limits.private_bytes=256KiB", "shards=1"]);
    let mut all: Vec<_> = (0..6).map(|_| CentrifugeClient::connect(&node, "42")).collect();
    let whole = frame(Opcode::Text, &[b' '; 200_000]);
    for client in &mut all {
        // Who is closed before all of it is sent may see a reset.
        let _ = client.socket.try_send_bytes(&whole[..100_000]);
    }
    wait_until("some are closed", || node.metrics().closed("memory_short") >= 3.0);
    wait_until("the others hold little", || {
        node.metrics().sum("dunlin_private_bytes") <= f64::from(256 << 10)
    });
    let mut other = CentrifugeClient::connect(&node, "42");
    other.send(
        &json!({"id": 99, "publish": {"channel": "c", "data": "x".repeat(60_000)}}).to_string(),
    );
    assert!(other.reply(99).get("publish").is_some());
    drop(all);
    wait_until("nothing is kept", || node.metrics().sum("dunlin_private_bytes") == 0.0);
}

#[test]
fn who_tries_token_after_token_is_closed() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let forged = json!({"channel": "closed:c", "token": "a.b.c"});
    for _ in 1..16 {
        assert_eq!(client.error("subscribe", forged.clone()), 103);
    }
    client.pipeline(&[("subscribe", forged)]);
    client.expect_close(3500);
}
