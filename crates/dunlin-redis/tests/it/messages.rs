//! What is published comes back, to every node and to programs that know nothing of Dunlin.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dunlin_core::{
    broker::ReplyTo,
    broker::{Broker, conformance},
    error::PublishError,
    ids::{ConnectionId, ShardId},
    inbox::Notice,
    interest::Wish,
    limits::LINGER,
    publication::{Kind, Publication},
};
use dunlin_redis::{
    broker::{RedisBroker, Settings},
    envelope::Format,
    metrics::LinkMetrics,
};

use crate::{
    node::{Node, ended, name},
    server::{RedisServer, slice, wait_until},
};

#[tokio::test]
async fn it_conforms() {
    let server = RedisServer::start();
    conformance::run(|interest| async {
        let settings = Settings::new(server.url());
        let broker = RedisBroker::start(settings, interest, LinkMetrics::default()).await.unwrap();
        broker as Arc<dyn Broker>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_however_the_bytes_are_cut() {
    let server = RedisServer::start();
    let sliced = server.socket().with_extension("sliced");
    let slicing = tokio::spawn(slice(server.socket(), sliced.clone()));
    wait_until("the slicer listens", || sliced.exists());
    conformance::run(|interest| {
        let url = format!("redis+unix://{}", sliced.display()).parse().unwrap();
        async {
            let settings = Settings::new(url);
            let broker = RedisBroker::start(settings, interest, LinkMetrics::default()).await;
            broker.unwrap() as Arc<dyn Broker>
        }
    })
    .await;
    slicing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_redis_client_can_talk_and_listen() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    node.join("chat").await;

    let receivers: u32 = server.run_command(&[b"PUBLISH", b"dunlin:chat", "grüße".as_bytes()]);
    assert_eq!(receivers, 1);
    let _: u32 = server.run_command(&[b"PUBLISH", b"dunlin:chat", b"\x00\xFE"]);
    let received = node.receive(2).await;
    assert_eq!((received[0].kind(), received[0].data()), (Kind::Text, "grüße".as_bytes()));
    assert_eq!((received[1].kind(), received[1].data()), (Kind::Binary, &b"\x00\xFE"[..]));

    let mut listener = server.client().get_connection().unwrap();
    let mut listener = listener.as_pubsub();
    listener.subscribe("dunlin:chat").unwrap();
    node.say("chat", "hello").await;
    let binary = node.publish("chat", Kind::Binary, b"\xFF\x00 raw");
    assert_eq!(ended(binary).await, Ok(None));
    assert_eq!(listener.get_message().unwrap().get_payload_bytes(), b"hello");
    assert_eq!(listener.get_message().unwrap().get_payload_bytes(), b"\xFF\x11\x00\xFF\x00 raw");
}

#[tokio::test]
async fn without_a_prefix_the_names_are_the_same_on_both_sides() {
    let server = RedisServer::start();
    let settings = Settings { channel_prefix: String::new(), ..Settings::new(server.url()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    node.join("chat_channel").await;
    let _: u32 = server.run_command(&[b"PUBLISH", b"chat_channel", b"hi"]);
    assert_eq!(node.receive_texts(1).await, ["hi"]);
}

#[tokio::test]
async fn raw_messages_are_any_programs() {
    let server = RedisServer::start();
    let settings = Settings { format: Format::Raw, ..Settings::new(server.url()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    node.join("chat").await;
    let mut listener = server.client().get_connection().unwrap();
    let mut listener = listener.as_pubsub();
    listener.subscribe("dunlin:chat").unwrap();
    let messages = [(Kind::Text, &b"text"[..]), (Kind::Binary, b"\xFF\xD8"), (Kind::Binary, b"hi")];
    for (kind, data) in messages {
        assert_eq!(ended(node.publish("chat", kind, data)).await, Ok(None));
        assert_eq!(listener.get_message().unwrap().get_payload_bytes(), data);
    }
    let kinds: Vec<_> = node.receive(3).await.iter().map(|it| it.kind()).collect();
    assert_eq!(kinds, [Kind::Text, Kind::Binary, Kind::Text], "bytes that are UTF-8 are text");
}

/// Redis itself delivers what is published in one database in all others, too.
#[tokio::test]
async fn nodes_of_different_databases_do_not_meet() {
    let server = RedisServer::start();
    let node = async |database: u32| {
        let url = format!("redis+unix://{}?db={database}", server.socket().display());
        Node::start_with(Settings::new(url.parse().unwrap()), 1000).await.unwrap()
    };
    let nodes = [node(0).await, node(1).await, node(1).await];
    for node in &nodes {
        node.join("chat").await;
    }
    for (node, text) in nodes.iter().zip(["a", "b", "c"]) {
        node.say("chat", text).await;
    }
    assert_eq!(nodes[0].receive_texts(1).await, ["a"]);
    for node in &nodes[1..] {
        assert_eq!(node.receive_texts(2).await, ["b", "c"]);
    }
    let _: u32 = server.run_command(&[b"PUBLISH", b"1:dunlin:chat", b"foreign"]);
    assert_eq!(nodes[1].receive_texts(1).await, ["foreign"]);
    assert_eq!(nodes[0].take_texts(), [""; 0]);
}

/// A connection's channel has a subscriber: the connection. When Redis counts none, it has lost the
/// node's subscriptions, and the publish would be lost in silence.
#[tokio::test]
async fn a_connection_whose_publish_nobody_got_is_told() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    let publisher = ConnectionId { shard: ShardId::new(0), slot: 7, generation: 7 };
    let publication = |channel| {
        let hi = Bytes::from_static(b"hi");
        let publication = Publication::new(name(channel), Kind::Text, hi);
        (publication.into(), ReplyTo::Connection(publisher))
    };
    node.join("heard").await;
    let mut publications = vec![publication("heard"), publication("unheard")];
    node.broker.publish(&mut publications);
    let mut notices = Vec::new();
    while notices.len() < 2 {
        node.inbox.filled().await;
        let mut turn = Vec::new();
        node.inbox.take(&mut turn);
        notices.append(&mut turn);
    }
    let failures: Vec<_> = notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::PublishFailed(connection, error) => Some((*connection, *error)),
            _ => None,
        })
        .collect();
    assert_eq!(failures, [(publisher, PublishError::Refused)]);
    // Whoever is no subscriber may publish to nobody.
    node.say("unheard", "hi").await;
}

#[tokio::test]
async fn what_cannot_be_read_is_skipped_and_counted() {
    let server = RedisServer::start();
    let settings = Settings { message_bytes: 10_000, ..Settings::new(server.url()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    node.join("chat").await;
    let huge = vec![b'x'; 100_000];
    for payload in [&b"\xFFDun\x02 newer"[..], &huge, b"ok"] {
        let _: u32 = server.run_command(&[b"PUBLISH", b"dunlin:chat", payload]);
    }
    assert_eq!(node.receive_texts(1).await, ["ok"]);
    assert_eq!(node.metrics.messages_skipped.get(), 2);
}

#[tokio::test]
async fn foreign_bytes_that_begin_like_an_envelope_arrive_as_they_are() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    node.join("chat").await;
    let utf_16 = b"\xFF\xFEh\0i\0";
    let messages = [&b"\xFF\xD8\xFF\xE0 a picture"[..], utf_16, b"\xFF", b"\xFF\x21\x00"];
    for payload in messages {
        let _: u32 = server.run_command(&[b"PUBLISH", b"dunlin:chat", payload]);
    }
    for (received, payload) in node.receive(messages.len()).await.iter().zip(messages) {
        assert_eq!((received.kind(), received.data()), (Kind::Binary, payload));
    }
    assert_eq!(node.metrics.messages_skipped.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_see_one_order_and_each_publisher_its_own() {
    const EACH: usize = 3000;
    let server = RedisServer::start();
    let nodes = [Node::start(&server).await, Node::start(&server).await];
    for node in &nodes {
        node.join("order").await;
    }
    let publish = async |publisher: usize| {
        for sequence in 0..EACH {
            let text = format!("{publisher} {sequence}");
            let node = &nodes[publisher];
            let (_, room) = node.publish_and_room("order", Kind::Text, text.as_bytes());
            if let Some(room) = room {
                room.await;
            }
        }
    };
    tokio::join!(publish(0), publish(1));
    let left = nodes[0].receive_texts(2 * EACH).await;
    assert_eq!(left, nodes[1].receive_texts(2 * EACH).await);
    for publisher in 0..2 {
        let prefix = format!("{publisher} ");
        let own = left.iter().filter(|text| text.starts_with(prefix.as_bytes())).cloned();
        assert!(own.eq((0..EACH).map(|sequence| Bytes::from(format!("{publisher} {sequence}")))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_channels_cost_few_commands() {
    const CHANNELS: usize = 5000;
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    let wishes: Vec<_> = (0..CHANNELS).map(|number| node.wish(&format!("c{number}"))).collect();
    for wish in wishes {
        if let Wish::Pending(answer) = wish {
            answer.granted().await.unwrap();
        }
    }
    let subscribes = calls(&server, "subscribe");
    assert!(
        (1..CHANNELS / 10).contains(&subscribes),
        "{subscribes} SUBSCRIBE for {CHANNELS} channels"
    );
    let wanted = channel_count(&server);
    // And that of the probe.
    assert_eq!(wanted, CHANNELS + 1);
    node.say("c4999", "hi").await;
    assert_eq!(node.receive_texts(1).await, ["hi"]);

    let now = Instant::now();
    for number in 0..CHANNELS {
        node.interest.remove(&name(&format!("c{number}")), ShardId::new(0), now);
    }
    node.interest.sweep(now + LINGER, |channel| node.broker.unsubscribe(channel));
    wait_until("redis has forgotten them", || channel_count(&server) == 1);
    let unsubscribes = calls(&server, "unsubscribe");
    assert!((1..CHANNELS / 10).contains(&unsubscribes), "{unsubscribes} UNSUBSCRIBE");
}

/// A channel that is left and wanted again is acknowledged again, whatever was on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_ends_in_what_is_wanted() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    for round in 0..200 {
        node.join("churn").await;
        node.say("churn", &round.to_string()).await;
        assert_eq!(node.receive_texts(1).await, [round.to_string()]);
        let now = Instant::now();
        node.interest.remove(&name("churn"), ShardId::new(0), now);
        node.interest.sweep(now + LINGER, |channel| node.broker.unsubscribe(channel));
    }
    wait_until("redis has forgotten it", || channel_count(&server) == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_independent_client_sees_the_same_messages() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    node.join("same").await;
    let mut oracle = server.client().get_connection().unwrap();
    oracle.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut oracle = oracle.as_pubsub();
    oracle.subscribe("dunlin:same").unwrap();

    let payloads: Vec<Vec<u8>> = (0..300_usize).map(payload).collect();
    for payload in &payloads {
        let _: u32 = server.run_command(&[b"PUBLISH", b"dunlin:same", payload]);
    }
    let received = node.receive(payloads.len()).await;
    for (publication, payload) in received.iter().zip(&payloads) {
        let seen = oracle.get_message().unwrap();
        assert_eq!(seen.get_payload_bytes(), payload);
        assert_eq!(publication.data(), payload);
    }
}

/// Sizes from none to beyond a read buffer, with line ends and RESP inside.
fn payload(number: usize) -> Vec<u8> {
    let size = if number % 50 == 49 { 100_000 + number } else { number * 7 % 1500 };
    b"$5\r\nhello\r\n>3\r\n\x00\x01\x80"
        .iter()
        .copied()
        .cycle()
        .skip(number % 19)
        .take(size)
        .collect()
}

fn channel_count(server: &RedisServer) -> usize {
    server.run_command::<Vec<Vec<u8>>>(&[b"PUBSUB", b"CHANNELS"]).len()
}

fn calls(server: &RedisServer, command: &str) -> usize {
    let stats: String = server.run_command(&[b"INFO", b"commandstats"]);
    let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}
