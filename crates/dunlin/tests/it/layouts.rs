//! Nodes of another release that keep apart what nodes share. `e2e/releases` tries a real one.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use dunlin_core::{
    control::{Body, Introduction, Message, MessageId, Order},
    ids::NodeId,
};

use crate::harness::{KEY_SETTING, Node, NodeCommand, Redis, get, unix_time, wait_until};

const KEPT: [&str; 2] =
    ["channel.without_namespace.history_size=10", "channel.without_namespace.history_ttl=1m"];

fn say(redis: &Redis, number: u64, body: Body) {
    let id = MessageId { node: NodeId::new(7), number };
    let sent_at_ms = unix_time(0).cast_unsigned() * 1000;
    let text = Message { id, sent_at_ms, body }.to_text();
    redis::cmd("PUBLISH").arg("dunlin:$ctl.nodes").arg(text).exec(&mut redis.connect()).unwrap();
}

/// Runs `scenario` while a node lives that does not know of layouts.
fn beside_an_older_node<T>(redis: &Redis, scenario: impl FnOnce() -> T) -> T {
    /// However the scenario ends.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    let is_over = AtomicBool::new(false);
    let live = || {
        for number in 0.. {
            if is_over.load(Ordering::Acquire) {
                return say(redis, number, Body::Left {});
            }
            let (name, version) = ("elder".to_owned(), "0".to_owned());
            let introduction = Introduction { name, version, revoked: None, layout: None };
            say(redis, number, Body::Alive(introduction));
            // The pace of its signs of life: a node that starts waits a tenth of a second.
            thread::sleep(Duration::from_millis(20));
        }
    };
    thread::scope(|scope| {
        scope.spawn(live);
        let _end = End(&is_over);
        scenario()
    })
}

fn start(redis: &Redis, settings: &[&str]) -> Node {
    NodeCommand::new().set(&[&format!("redis.url={}", redis.url())]).set(settings).start()
}

fn others(node: &Node) -> f64 {
    node.metrics().sum("dunlin_nodes_of_other_layout")
}

#[test]
fn what_is_kept_apart_is_not_served_side_by_side() {
    let redis = Redis::start();
    let node = beside_an_older_node(&redis, || {
        let node = start(&redis, &KEPT);
        let ready = get(node.address, "/ready");
        assert_eq!(ready.status, 503);
        assert!(ready.body.contains("other_layout"), "{}", ready.body);
        assert!(ready.body.contains("elder"), "{}", ready.body);
        assert_eq!(node.status_of("/connection/websocket"), 503);
        assert!(node.log().contains("not ready yet: nodes of another release"), "{}", node.log());
        node
    });
    wait_until("the other one has left", || node.status_of("/ready") == 200);
    wait_until("it is forgotten", || others(&node) == 0.0);
    beside_an_older_node(&redis, || {
        wait_until("it is noticed", || others(&node) == 1.0);
        assert_eq!(node.status_of("/ready"), 200, "who comes later changes nothing");
    });
    wait_until("it is forgotten", || others(&node) == 0.0);
}

#[test]
fn where_nothing_is_kept_nodes_of_two_layouts_serve() {
    let redis = Redis::start();
    beside_an_older_node(&redis, || {
        let node = start(&redis, &[KEY_SETTING]);
        wait_until("the operator is told", || node.log().contains("elder"));
        assert_eq!(node.status_of("/ready"), 200);
        assert_eq!(others(&node), 1.0);
        assert_eq!(node.log().matches("elder").count(), 1, "{}", node.log());
        let mut ear = redis.connect();
        let mut hears = ear.as_pubsub();
        hears.subscribe("dunlin:$ctl.nodes").unwrap();
        node.result("disconnect", r#"{"user":"42"}"#);
        let is_order = |body| matches!(body, Body::Order(Order::Disconnect(_)));
        wait_until("the other one hears an order", || {
            let heard = hears.get_message().unwrap();
            is_order(Message::parse(heard.get_payload_bytes()).unwrap().body)
        });
    });
}
