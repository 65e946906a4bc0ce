//! An address that leads one node to another server than the others: that server is well, and what
//! is published there reaches nobody else. Nothing is acknowledged there and nothing read.

use dunlin_core::{broker::Broker, publication::Kind};
use dunlin_redis::{broker::Settings, keys::Keys, partition::Partition};

use crate::{
    history::{history, keep, kept},
    node::{Node, Status, ended},
    proxy::Proxy,
    server::{RedisServer, wait_until},
};

/// A node that reaches its server over a way that can be led elsewhere, and one beside it.
async fn led_and_other(server: &RedisServer, way: &Proxy) -> (Node, Node) {
    let other = Node::start(server).await;
    // Its first probe counts the other one.
    let settings = Settings::new(way.url().parse().unwrap());
    (Node::start_with(settings, 1000).await.unwrap(), other)
}

fn wait_for_reason(node: &Node, reason: &str) {
    tokio::task::block_in_place(|| {
        wait_until(reason, || {
            node.broker.outages(None).iter().any(|outage| outage.reason.contains(reason))
        });
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_alone_is_led_to_another_server_takes_nothing_there() {
    let (server, empty) = (RedisServer::start(), RedisServer::start());
    let way = Proxy::start(&server.socket());
    let (led, other) = led_and_other(&server, &way).await;
    led.join("plain").await;
    other.join("plain").await;
    kept(keep(&led, "c", "before")).await;

    way.lead_to(&empty.socket());
    way.cut();
    wait_for_reason(&led, "1 of the nodes that were there are not at this one");
    let waits = (keep(&led, "c", "led"), led.publish("plain", Kind::Text, b"led"));
    kept(keep(&other, "c", "other")).await;
    let keys: Vec<String> = empty.run_command(&[b"KEYS", b"*"]);
    let start = Keys::new("dunlin:").start(Partition::FIRST);
    let company = format!("{}w:", String::from_utf8(start.to_vec()).unwrap());
    assert!(keys.iter().all(|key| key.starts_with(&company)), "{keys:?}");

    way.lead_to(&server.socket());
    led.wait_for(Status::Ready);
    kept(waits.0).await;
    assert_eq!(ended(waits.1).await, Ok(None));
    assert_eq!(other.receive_texts(1).await, ["led"]);
    assert_eq!(history(&other, "c").await.1, ["before", "other", "led"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_led_to_another_server_together_go_on_there() {
    let (server, new) = (RedisServer::start(), RedisServer::start());
    let way = Proxy::start(&server.socket());
    let start = || Node::start_with(Settings::new(way.url().parse().unwrap()), 1000);
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    way.lead_to(&new.socket());
    way.cut();
    tokio::task::block_in_place(|| {
        wait_until("all links are at the new server", || {
            let clients: String = new.run_command(&[b"CLIENT", b"LIST"]);
            clients.matches("name=dunlin").count() == 6
        });
    });
    first.wait_for(Status::Ready);
    second.wait_for(Status::Ready);
    second.join("plain").await;
    first.say("plain", "hi").await;
    assert_eq!(second.receive_texts(1).await, ["hi"]);
}
