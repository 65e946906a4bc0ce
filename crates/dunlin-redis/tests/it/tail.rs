//! A server that takes over without the last publications that another one acknowledged gets them
//! back from the nodes that published them; what does not come back is told.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc};

use dunlin_core::{
    broker::{Publish, ReplyTo, Since},
    inbox::Notice,
    position::Position,
    publication::{Kind, Publication},
    stream::{Resume, Snapshot, Turn},
};
use dunlin_redis::keys::Keys;
use tokio::sync::oneshot;

use crate::{
    heals::{Healing, RETENTION},
    node::{Status, ended, name},
    proxy::Proxy,
    server::{RedisServer, free_port, wait_until},
};

/// A primary, and a replica that takes its place and its socket.
struct Pair {
    primary: RedisServer,
    replica: RedisServer,
}

impl Pair {
    fn start() -> Self {
        tokio::task::block_in_place(|| {
            let port = free_port().to_string();
            let primary =
                RedisServer::start_with(&["--port", &port, "--repl-diskless-sync-delay", "0"]);
            let replica = RedisServer::start_with(&["--replicaof", &format!("127.0.0.1 {port}")]);
            let info = || replica.run_command::<String>(&[b"INFO", b"replication"]);
            wait_until("it follows", || info().contains("master_link_status:up"));
            Self { primary, replica }
        })
    }

    async fn node(&self) -> Healing {
        Healing::start(&format!("redis+unix://{}", self.primary.socket().display())).await
    }

    /// The replica has so many publications of `c`, and gets no more.
    fn cut_replica_after(&self, count: u32) {
        let length = || -> u32 { self.replica.run_command(&[b"XLEN", &stream()]) };
        tokio::task::block_in_place(|| wait_until("it has them", || length() == count));
        // A primary that is nowhere.
        let _: String = self.replica.run_command(&[b"REPLICAOF", b"127.0.0.1", b"1"]);
    }

    fn fail_over(&mut self) {
        tokio::task::block_in_place(|| self.primary.crash());
        let _: String = self.replica.run_command(&[b"REPLICAOF", b"NO", b"ONE"]);
        fs::rename(self.replica.socket(), self.primary.socket()).unwrap();
    }

    /// What is kept of `c`.
    fn kept(&self) -> Vec<String> {
        type Entry = (String, Vec<Vec<u8>>);
        let entries: Vec<Entry> = self.primary.run_command(&[b"XRANGE", &stream(), b"-", b"+"]);
        let text = |(_, fields): Entry| String::from_utf8(fields[1].clone()).unwrap();
        entries.into_iter().map(text).collect()
    }
}

fn stream() -> Vec<u8> {
    Keys::new("dunlin:").stream(&name("c")).concat()
}

fn texts(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

/// Publishes numbers to `c`, and returns where the last one is.
async fn keep(node: &Healing, numbers: impl IntoIterator<Item = u32>) -> Position {
    let mut last = None;
    for number in numbers {
        last = Some(node.keep("c", number.to_string()).await);
    }
    last.unwrap()
}

fn wait_for_all(nodes: &[&Healing]) {
    tokio::task::block_in_place(|| {
        wait_until("all are ready", || {
            nodes.iter().all(|node| Status::of(&node.broker) == Status::Ready)
        });
    });
}

/// What a subscriber of `c` gets, up to and with a last text, and what it is told before that.
async fn received(node: &Healing, last: &str) -> (Vec<String>, Vec<Turn>) {
    let (mut texts, mut turns) = (Vec::new(), Vec::new());
    node.take_until(|notice| match notice {
        Notice::Publication(publication) => {
            texts.push(String::from_utf8(publication.data().to_vec()).unwrap());
            publication.data() == last.as_bytes()
        }
        Notice::Turned(_, turn) => {
            turns.push(turn);
            false
        }
        _ => false,
    })
    .await;
    (texts, turns)
}

/// Where somebody begins who comes back from `since` to a node that has heard of nothing.
async fn come_back(pair: &Pair, since: Position) -> Snapshot {
    let node = pair.node().await;
    let since = Since { offset: since.offset, epoch: Some(since.epoch) };
    node.join("c", 0, Some(Resume { since, limit: 1000, is_cache: false })).await;
    node.joined(1).await.remove(0)
}

fn missed(snapshot: &Snapshot) -> Vec<String> {
    let text = |it: &Arc<Publication>| String::from_utf8(it.data().to_vec()).unwrap();
    snapshot.publications.iter().map(text).collect()
}

/// A listener that hears nothing from now on, until its proxy is cut.
async fn deaf(pair: &Pair) -> (Healing, Proxy) {
    let proxy = Proxy::start(&pair.primary.socket());
    let node = Healing::start(&proxy.url()).await;
    node.join("c", 0, None).await;
    node.joined(1).await;
    (node, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_primary_lacks_is_put_back_and_nobody_sees_it_twice() {
    let mut pair = Pair::start();
    let (publisher, listener) = (pair.node().await, pair.node().await);
    listener.join("c", 0, None).await;
    listener.join("young", 0, None).await;
    let (deaf, proxy) = deaf(&pair).await;
    keep(&publisher, 0..3).await;
    pair.cut_replica_after(3);
    proxy.lose_answers();
    let known = keep(&publisher, 3..5).await;
    let young = publisher.keep("young", "first".to_owned()).await;
    assert_eq!(received(&listener, "first").await.0.len(), 6, "it has all before");
    pair.fail_over();
    proxy.cut();
    wait_for_all(&[&publisher, &listener, &deaf]);

    let next = keep(&publisher, [5]).await;
    assert_eq!((next.offset, next.epoch.id), (6, known.epoch.id));
    assert_eq!(next.epoch.generation(), known.epoch.generation() + 1);
    assert_eq!(received(&listener, "5").await, (texts([5]), vec![Turn::Moved]));
    assert_eq!(received(&deaf, "5").await, (texts(0..6), vec![Turn::Moved]));
    assert_eq!(pair.kept(), texts(0..6));
    assert_eq!(publisher.metrics.publishes_restored.get(), 3);
    for since in [Position { offset: 3, ..known }, known] {
        let snapshot = come_back(&pair, since).await;
        assert!(snapshot.recovered);
        assert_eq!(missed(&snapshot), texts(since.offset as u32..6));
    }
    // And a channel that began after the replica had heard its last.
    let second = publisher.keep("young", "second".to_owned()).await;
    assert_eq!((second.offset, second.epoch.id), (2, young.epoch.id));
    assert_eq!(received(&listener, "second").await, (vec!["second".to_owned()], vec![Turn::Moved]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_put_back_in_turns_what_they_published_in_turns() {
    let mut pair = Pair::start();
    let (left, right) = (pair.node().await, pair.node().await);
    right.join("c", 0, None).await;
    let (deaf, proxy) = deaf(&pair).await;
    keep(&left, 0..3).await;
    pair.cut_replica_after(3);
    proxy.lose_answers();
    for number in 3..103 {
        keep(if number % 3 == 0 { &left } else { &right }, [number]).await;
    }
    assert_eq!(received(&right, "102").await.0, texts(0..103));
    pair.fail_over();
    proxy.cut();
    wait_for_all(&[&left, &right, &deaf]);
    keep(&left, [103]).await;
    assert_eq!(received(&right, "103").await, (texts([103]), vec![Turn::Moved]));
    assert_eq!(received(&deaf, "103").await, (texts(0..104), vec![Turn::Moved]));
    assert_eq!(pair.kept(), texts(0..104));
}

/// What was published and not acknowledged is published behind what was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_repeated_comes_behind_what_is_put_back() {
    let mut pair = Pair::start();
    let proxy = Proxy::start(&pair.primary.socket());
    let publisher = Healing::start(&proxy.url()).await;
    keep(&publisher, 0..3).await;
    pair.cut_replica_after(3);
    keep(&publisher, 3..5).await;
    proxy.lose_answers();
    let publication = Publication::new(name("c"), Kind::Text, "5".into());
    let (reply, outcome) = oneshot::channel();
    let publish = Publish { publication, retention: Some(RETENTION), terms: None };
    publisher.node.publish(publish, ReplyTo::Caller(reply));
    tokio::task::block_in_place(|| wait_until("it is there", || pair.kept().len() == 6));
    pair.fail_over();
    proxy.cut();
    let position = ended(outcome).await.unwrap().unwrap();
    assert_eq!(position.offset, 6);
    assert_eq!(pair.kept(), texts(0..6));
}

/// Somebody published before the node with the rest came: that has no place any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_something_to_a_race_is_told() {
    let mut pair = Pair::start();
    // Two proxies stand at two names of the server.
    let socket = pair.primary.socket().with_file_name("other.sock");
    symlink(pair.primary.socket(), &socket).unwrap();
    let (quick, proxy) = (pair.node().await, Proxy::start(&socket));
    let slow = Healing::start(&proxy.url()).await;
    quick.join("c", 0, None).await;
    let (deaf, proxy_of_deaf) = deaf(&pair).await;
    let common = keep(&slow, 0..3).await;
    pair.cut_replica_after(3);
    proxy_of_deaf.lose_answers();
    let lost = keep(&slow, 3..5).await;
    assert_eq!(received(&quick, "4").await.0, texts(0..5));
    proxy.lead_to(Path::new("/nowhere"));
    pair.fail_over();
    proxy_of_deaf.cut();
    wait_for_all(&[&quick, &deaf]);
    keep(&quick, [5]).await;
    assert_eq!(received(&deaf, "5").await.0, texts([0, 1, 2, 5]), "nobody can know yet");

    proxy.lead_to(&pair.primary.socket());
    let given_up = || slow.metrics.channels_lost.get() == 1;
    tokio::task::block_in_place(|| wait_until("the late one sees it", given_up));
    let last = keep(&quick, [6]).await;
    assert!(received(&quick, "6").await.1.contains(&Turn::Lost));
    assert!(received(&deaf, "6").await.1.contains(&Turn::Lost));
    for since in [common, lost] {
        assert!(!come_back(&pair, since).await.recovered, "{since:?}");
    }
    assert!(come_back(&pair, last).await.recovered);
}

/// A tail is bounded: what was published before it is lost, and what is in it has no place then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_more_than_a_tail_holds_is_told() {
    let mut pair = Pair::start();
    let publisher = pair.node().await;
    let (deaf, proxy) = deaf(&pair).await;
    let common = keep(&publisher, 0..3).await;
    pair.cut_replica_after(3);
    proxy.lose_answers();
    for _ in 0..10 {
        publisher.keep("c", "x".repeat(1 << 20)).await;
    }
    pair.fail_over();
    proxy.cut();
    wait_for_all(&[&publisher, &deaf]);
    keep(&publisher, [13]).await;
    let (received, turns) = received(&deaf, "13").await;
    assert_eq!(received.last(), Some(&"13".to_owned()));
    assert!(turns.contains(&Turn::Lost));
    assert!(!come_back(&pair, common).await.recovered);
    assert_eq!(publisher.metrics.publishes_restored.get(), 0);
}

/// A server that comes back with an old snapshot is a new primary like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_snapshot_lacks_is_put_back() {
    let mut server = RedisServer::start();
    let node = Healing::start(&format!("redis+unix://{}", server.socket().display())).await;
    node.join("c", 0, None).await;
    keep(&node, 0..3).await;
    let _: String = server.run_command(&[b"SAVE"]);
    keep(&node, 3..5).await;
    assert_eq!(received(&node, "4").await.0, texts(0..5));
    tokio::task::block_in_place(|| {
        server.crash();
        server.run();
    });
    assert_eq!(keep(&node, [5]).await.offset, 6);
    assert_eq!(received(&node, "5").await, (texts([5]), vec![Turn::Moved]));
}

/// The others are not held for long by a channel whose past the server does not take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_put_back_closes_nothing_else() {
    let mut server = RedisServer::start();
    let node = Healing::start(&format!("redis+unix://{}", server.socket().display())).await;
    keep(&node, 0..3).await;
    let meta = Keys::new("dunlin:").meta(&name("c")).concat();
    let _: String = server.run_command(&[b"SET", &meta, b"of another type"]);
    let _: String = server.run_command(&[b"SAVE"]);
    tokio::task::block_in_place(|| {
        server.crash();
        server.run();
    });
    node.keep("another", "kept".to_owned()).await;
}
