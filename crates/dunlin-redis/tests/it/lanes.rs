//! A list of servers: what happens to one of them happens to its own channels, and to no others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dunlin_core::{
    broker::{Broker, conformance},
    error::PublishError,
    publication::Kind,
};
use dunlin_redis::{
    broker::{RedisBroker, Settings},
    metrics::LinkMetrics,
    queue::QueueBounds,
};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    history::{history, keep, kept},
    node::{Node, Status, ended, name},
    proxy::Proxy,
    server::{RedisServer, wait_until},
};

fn settings(servers: &[&RedisServer]) -> Settings {
    let urls = servers.iter().map(|server| server.url()).collect();
    // Who cannot be served has to be told soon, for these tests to be quick.
    let queue = QueueBounds { age: Duration::from_secs(1), ..QueueBounds::default() };
    Settings { urls, queue, ..Settings::new(servers[0].url()) }
}

/// A channel of each server that runs, as the servers themselves tell.
async fn channels(node: &Node, servers: &[&RedisServer]) -> Vec<String> {
    let mut channels = Vec::new();
    for server in servers {
        let mut numbers = 0..100;
        let channel = loop {
            let channel = format!("c{}", numbers.next().expect("each has some"));
            node.join(&channel).await;
            let in_redis = format!("dunlin:{channel}");
            let (_, subscribers): (String, u32) =
                server.run_command(&[b"PUBSUB", b"NUMSUB", in_redis.as_bytes()]);
            if subscribers > 0 {
                break channel;
            }
        };
        channels.push(channel);
    }
    channels
}

pub(crate) fn outages(node: &Node, channel: Option<&str>) -> Vec<(String, String)> {
    let channel = channel.map(name);
    let outages = node.broker.outages(channel.as_ref()).into_iter();
    outages.map(|outage| (outage.part.to_string(), outage.reason.to_string())).collect()
}

/// Publishes to a channel, plain and kept, and hears both.
pub(crate) async fn talk(node: &Node, channel: &str) {
    let keeping = keep(node, channel, "kept");
    node.say(channel, "plain").await;
    kept(keeping).await;
    let mut texts = node.receive_texts(2).await;
    texts.sort();
    assert_eq!(texts, ["kept", "plain"]);
}

pub(crate) fn unless_blocked(what: &str, is_so: impl FnMut() -> bool) {
    tokio::task::block_in_place(|| wait_until(what, is_so));
}

#[tokio::test]
async fn a_list_of_servers_conforms() {
    let servers = [RedisServer::start(), RedisServer::start()];
    conformance::run(|interest| async {
        let settings = settings(&servers.each_ref());
        let broker = RedisBroker::start(settings, interest, LinkMetrics::default()).await.unwrap();
        broker as Arc<dyn Broker>
    })
    .await;
}

/// Ends one server after the other, in both ways, and talks to the others all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_lanes_do_not_notice_that_a_server_is_gone() {
    let mut servers: [_; 3] = std::array::from_fn(|_| RedisServer::start());
    let node = Node::start_with(settings(&servers.each_ref()), 1000).await.unwrap();
    let channels = channels(&node, &servers.each_ref()).await;
    for channel in &channels {
        talk(&node, channel).await;
    }
    for (gone, is_killed) in [(0, true), (1, false)] {
        tokio::task::block_in_place(|| match is_killed {
            true => servers[gone].crash(),
            false => servers[gone].signal(Signal::STOP),
        });
        let began = Instant::now();
        let mut is_named = false;
        while began.elapsed() < Duration::from_secs(4) {
            for (other, channel) in channels.iter().enumerate().filter(|(it, _)| *it != gone) {
                let start = Instant::now();
                talk(&node, channel).await;
                assert!(start.elapsed() < LITTLE, "{other} took {:?}", start.elapsed());
                assert_eq!(outages(&node, Some(channel)), []);
            }
            let told = outages(&node, None);
            is_named |= told.iter().any(|(part, _)| *part == servers[gone].url().to_string());
            assert!(told.len() <= 1, "{told:?}");
            assert!(is_named || began.elapsed() < Duration::from_secs(3), "not named");
        }
        assert_eq!(outages(&node, Some(&channels[gone])).len(), 1);
        let refused = node.publish(&channels[gone], Kind::Text, b"refused");
        assert_eq!(ended(refused).await, Err(PublishError::Refused));
        tokio::task::block_in_place(|| match is_killed {
            true => servers[gone].run(),
            false => servers[gone].signal(Signal::CONT),
        });
        let back = Instant::now();
        node.wait_for(Status::Ready);
        assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
        node.join(&channels[gone]).await;
        talk(&node, &channels[gone]).await;
    }
}

/// Far below what a publish to a server that is gone waits.
pub(crate) const LITTLE: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_one_server_is_away() {
    let mut servers: [_; 3] = std::array::from_fn(|_| RedisServer::start());
    let whole = Node::start_with(settings(&servers.each_ref()), 1000).await.unwrap();
    let channels = channels(&whole, &servers.each_ref()).await;
    tokio::task::block_in_place(|| servers[2].crash());
    let settings =
        Settings { connect_timeout: Duration::from_millis(500), ..settings(&servers.each_ref()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    let away = servers[2].url().to_string();
    unless_blocked("the others are ready", || {
        outages(&node, None).iter().map(|(part, _)| part).eq([&away])
    });
    for channel in &channels[..2] {
        node.join(channel).await;
        talk(&node, channel).await;
    }
    let refused = node.publish(&channels[2], Kind::Text, b"refused");
    assert_eq!(ended(refused).await, Err(PublishError::Refused));
    tokio::task::block_in_place(|| servers[2].run());
    node.wait_for(Status::Ready);
    node.join(&channels[2]).await;
    talk(&node, &channels[2]).await;
}

/// Else nodes would publish to one server what others listen for at another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_list_carries_nothing_and_says_so() {
    let [a, b, c]: [_; 3] = std::array::from_fn(|_| RedisServer::start());
    let node = Node::start_with(settings(&[&a, &b]), 1000).await.unwrap();
    let channels = channels(&node, &[&a, &b]).await;
    for list in [&[&b, &a][..], &[&a], &[&b], &[&a, &b, &c], &[&c, &b]] {
        let impatient = Settings { connect_timeout: Duration::from_millis(500), ..settings(list) };
        let other = Node::start_with(impatient, 1000).await.unwrap();
        unless_blocked("it says so", || {
            outages(&other, None)
                .iter()
                .any(|(_, reason)| reason.contains("their lists of servers differ"))
        });
        // What such a node shares with nobody is its own affair.
        let shares = |server: &RedisServer| [&a, &b].iter().any(|it| it.url() == server.url());
        if list.iter().all(|server| shares(server)) {
            for channel in &channels {
                let plain = other.publish(channel, Kind::Text, b"astray");
                assert_eq!(ended(plain).await, Err(PublishError::Refused), "{channel}");
                assert_eq!(
                    ended(keep(&other, channel, "astray")).await,
                    Err(PublishError::Refused)
                );
            }
        }
        assert_eq!(outages(&node, None), [], "the others go on");
    }
    for channel in &channels {
        talk(&node, channel).await;
    }
}

/// A cut of the subscribe link: what is kept goes on, and is read later by whoever missed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_publishes_go_on_while_thousands_of_channels_are_subscribed_again() {
    const CHANNELS: usize = 4000;
    let server = RedisServer::start();
    let queue = QueueBounds { publishes: 50, ..QueueBounds::default() };
    let settings = Settings { queue, ..Settings::new(server.url()) };
    let node = Node::start_with(settings, 100_000).await.unwrap();
    let wishes: Vec<_> = (0..CHANNELS).map(|number| node.wish(&format!("c{number}"))).collect();
    drop(wishes);
    node.join("last").await;
    let mut outcomes = Vec::new();
    for round in 0..3 {
        let _: u32 = server.run_command(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
        for number in 0..100 {
            outcomes.push(keep(&node, "kept", &format!("{round} {number}")));
            // The pace of the load.
            sleep(Duration::from_millis(2)).await;
        }
        node.wait_for(Status::Ready);
    }
    let count = outcomes.len();
    for outcome in outcomes {
        kept(outcome).await;
    }
    assert_eq!(history(&node, "kept").await.1.len(), count);
}

/// One subscription that Redis does not confirm holds up no other channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_publish_waits_for_its_own_channel_only() {
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let settings = Settings::new(proxy.url().parse().unwrap());
    let node = Node::start_with(settings, 1000).await.unwrap();
    node.join("stands").await;
    proxy.lose_subscriptions();
    let wish = node.wish("pending");
    unless_blocked("it is lost", || proxy.has_lost_subscriptions());
    let mut held = node.publish("pending", Kind::Text, b"held");
    for _ in 0..10 {
        node.say("stands", "passes").await;
    }
    assert!(held.try_recv().is_err(), "it has to wait");
    // What Redis took is on its way, and the cut would end it there.
    assert_eq!(node.receive_texts(10).await, ["passes"; 10]);
    drop(wish);
    proxy.cut();
    assert_eq!(ended(held).await, Ok(None));
    assert_eq!(node.receive_texts(1).await, ["held"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_channels_have_several_links_and_all_of_them_stand() {
    let server = RedisServer::start();
    let settings = Settings { link_channels_max: 40, ..Settings::new(server.url()) };
    let listener = Node::start_with(settings, 100_000).await.unwrap();
    let publisher = Node::start(&server).await;
    let channels: Vec<_> = (0..100).map(|number| format!("many:{number}")).collect();
    for channel in &channels {
        listener.join(channel).await;
    }
    // The publisher has one, and so has the server's own view of the publisher's probe.
    let links = || {
        let list: String = server.run_command(&[b"CLIENT", b"LIST", b"TYPE", b"PUBSUB"]);
        let of =
            |line: &str| line.split(' ').find_map(|word| word.strip_prefix("sub=")?.parse().ok());
        list.lines().filter_map(of).collect::<Vec<usize>>()
    };
    tokio::task::block_in_place(|| {
        wait_until("the channels are spread", || {
            let links = links();
            links.len() == 5 && links.iter().sum::<usize>() == channels.len() + 2
        });
    });
    assert!(links().iter().all(|channels| *channels <= 41), "{:?}", links());
    for channel in &channels {
        publisher.say(channel, channel).await;
    }
    let mut texts = listener.receive_texts(channels.len()).await;
    texts.sort();
    let mut expected: Vec<_> =
        channels.iter().map(|it| Bytes::copy_from_slice(it.as_bytes())).collect();
    expected.sort();
    assert_eq!(texts, expected);
}
