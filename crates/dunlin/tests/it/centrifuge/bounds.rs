//! Bounds: what a client can make a node hold or do, whatever it sends and however little it reads.

use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{node, nodes};
use crate::harness::{
    CentrifugeClient, Client, Flock, Node, Opcode, connect_with_little_room, frame, token,
    upgrade_request, wait_until,
};

/// The next replies: how many results there are, and how many errors of this code.
fn count(client: &mut CentrifugeClient, replies: usize, code: u64) -> (usize, usize) {
    let replies: Vec<Value> = (0..replies).map(|_| client.next()).collect();
    let (errors, results): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.get("error").is_some());
    assert!(errors.iter().all(|reply| reply["error"]["code"] == code), "{errors:?}");
    (results.len(), errors.len())
}

fn pipeline(client: &mut CentrifugeClient, command: (&str, Value), count: usize) {
    client.pipeline(&vec![command; count]);
}

#[test]
fn a_flood_of_subscribes_is_answered() {
    let node = node(&["limits.message_bytes=2MiB", "client.channel_limit=100"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let subscribe = |number| ("subscribe", json!({"channel": format!("kept:{number}")}));
    let all: Vec<_> = (0..10_000).map(subscribe).collect();
    client.pipeline(&all);
    assert_eq!(count(&mut client, 10_000, 106), (100, 9_900));
    assert_eq!(node.metrics().sum("dunlin_subscriptions"), 100.0);
    drop(client);
    node.wait_until_empty();
}

#[test]
fn a_flood_of_questions_is_answered() {
    let node = node(&["limits.message_bytes=2MiB"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    client.subscribe("kept:a");
    client.result("subscribe", json!({"channel": "wish:a"}));
    for question in [
        ("history", json!({"channel": "kept:a", "limit": -1})),
        ("presence", json!({"channel": "wish:a"})),
        ("presence_stats", json!({"channel": "wish:a"})),
    ] {
        pipeline(&mut client, question, 5_000);
        let (results, errors) = count(&mut client, 5_000, 111);
        assert!(results >= 256 && results + errors == 5_000);
    }
    client.expect_nothing();
}

#[test]
fn what_is_nested_deep_breaks_nothing() {
    let node = node(&["limits.message_bytes=2MiB"]);
    const DEPTH: usize = 250_000;
    let nested = |open: &str, close: &str| open.repeat(DEPTH) + &close.repeat(DEPTH);
    let arrays = nested("[", "]");
    let mut client = CentrifugeClient::connect(&node, "42");
    client.subscribe("c");
    let mut plain = Client::join(node.address, "c");
    client.send(&format!(r#"{{"id":9,"publish":{{"channel":"c","data":{arrays}}}}}"#));
    assert_eq!(plain.receive_text(), arrays);
    // To read it is not in this client's power.
    drop(client);
    for hostile in [
        format!(
            r#"{{"id":2,"subscribe":{{"channel":"c","tf":{}}}}}"#,
            nested(r#"{"nodes":["#, "]}")
        ),
        format!(r#"{{"id":2,"other":{arrays}}}"#),
        arrays,
        nested("{\"a\":", "}"),
    ] {
        let mut client = CentrifugeClient::connect(&node, "42");
        client.send(&hostile);
        client.expect_close(3501);
    }
    let mut client = CentrifugeClient::connect(&node, "42");
    client.subscribe("c");
    client.expect_nothing();
    assert_eq!(node.metrics().sum("dunlin_panics_total"), 0.0);
}

/// A client in the channel that takes a few KiB and reads nothing.
fn sleeper(node: &Node) -> CentrifugeClient {
    let request = upgrade_request("/connection/websocket");
    let (socket, _) = Client::upgrade(connect_with_little_room(node.address), &request).unwrap();
    let mut client = CentrifugeClient::on(socket);
    client.enter(&token(&json!({"sub": "42"})));
    client.subscribe("b");
    client
}

#[test]
fn a_slow_reader_is_told_so() {
    let node = node(&["limits.backlog_bytes=64KiB"]);
    let mut asleep = sleeper(&node);
    let mut publisher = CentrifugeClient::connect(&node, "42");
    wait_until("it is too slow", || {
        publisher.publish("b", "x".repeat(10_000));
        node.metrics().closed("slow_reader") == 1.0
    });
    asleep.expect_close(3008);
    publisher.publish("b", 1);
}

#[test]
fn who_asks_and_does_not_read_is_a_slow_reader() {
    let node = node(&["limits.backlog_bytes=64KiB"]);
    let mut asleep = sleeper(&node);
    let question = json!({"id": 9, "subscribe": {"channel": "b"}}).to_string() + "\n";
    let questions = question.repeat(1_000);
    let asking = thread::spawn(move || {
        let frame = frame(Opcode::Text, questions.as_bytes());
        while asleep.socket.try_send_bytes(&frame).is_ok() {}
    });
    wait_until("it is too slow", || node.metrics().closed("slow_reader") == 1.0);
    asking.join().unwrap();
    node.wait_until_empty();
}

fn signal_redis(flock: &Flock, signal: Signal) {
    let pid = i32::try_from(flock.redis.as_ref().unwrap().pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn what_waits_is_bounded() {
    let flock = nodes(1, &[]);
    let mut client = CentrifugeClient::connect(&flock.nodes[0], "42");
    signal_redis(&flock, Signal::STOP);
    client.pipeline(&[("subscribe", json!({"channel": "kept:a"}))]);
    // Each waits for the subscribe, which waits for Redis; a few of them are enough.
    let large = json!({"channel": "kept:a", "data": "x".repeat(60_000)});
    for _ in 0..20 {
        client.pipeline(&[("publish", large.clone())]);
    }
    assert_eq!(count(&mut client, 15, 111), (0, 15));
    signal_redis(&flock, Signal::CONT);
    client.reply(2);
}
