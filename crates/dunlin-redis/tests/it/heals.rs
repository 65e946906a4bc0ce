//! Gaps are healed in full, however much is missing, and cost Redis little.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    broker::{Broker, HistoryQuery, Publish, ReplyTo, Since, conformance},
    error::BrokerLost,
    ids::{ConnectionId, ShardId},
    inbox::{Inbox, Notice},
    interest::Interest,
    namespace::{ChannelOptions, Namespaces, Retention},
    node::{HISTORY_BYTES_MAX, Node},
    position::Position,
    presence::memory::MemoryPresence,
    publication::{Kind, Publication},
    stream::{Resume, Snapshot, Turn},
};
use dunlin_redis::{
    broker::{RedisBroker, Settings},
    metrics::LinkMetrics,
};
use tokio::{
    sync::oneshot,
    time::{interval, timeout},
};

use crate::{
    node::{Status, name},
    proxy::Proxy,
    server::{RedisServer, wait_until},
};

pub(crate) const RETENTION: Retention =
    Retention { size: 100_000, ttl: Duration::from_secs(600), meta_ttl: Duration::from_secs(6000) };

/// A whole node, but for its clients.
pub(crate) struct Healing {
    pub(crate) node: Arc<Node>,
    pub(crate) broker: Arc<RedisBroker>,
    inbox: Arc<Inbox>,
    pub(crate) metrics: LinkMetrics,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Healing {
    pub(crate) async fn start(url: &str) -> Self {
        let inbox = Arc::new(Inbox::new(&conformance::limits()));
        let interest = Arc::new(Interest::new(vec![Arc::clone(&inbox)]));
        let settings = Settings::new(url.parse().unwrap());
        let metrics = LinkMetrics::default();
        let broker = RedisBroker::start(settings, Arc::clone(&interest), metrics.clone()).await;
        let broker = broker.unwrap();
        let namespaces = Arc::new(Namespaces::new(ChannelOptions::default(), []));
        let presence = Arc::new(MemoryPresence::new());
        let shared = Arc::clone(&broker) as Arc<dyn Broker>;
        let node = Arc::new(Node::new(interest, shared, presence, namespaces));
        let heal = || {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.heal().await })
        };
        let mut tasks: Vec<_> = (0..8).map(|_| heal()).collect();
        tasks.push(tokio::spawn(sweep(Arc::clone(&node))));
        Self { node, broker, inbox, metrics, tasks }
    }

    /// Makes a subscriber, and returns where it begins.
    pub(crate) async fn join(&self, channel: &str, slot: u32, resume: Option<Resume>) {
        self.try_join(channel, slot, resume).await.expect("the broker is there");
    }

    /// The same while links may be made anew, of which who waits is told.
    pub(crate) async fn try_join(
        &self,
        channel: &str,
        slot: u32,
        resume: Option<Resume>,
    ) -> Result<(), BrokerLost> {
        let connection = ConnectionId { shard: ShardId::new(0), slot, generation: 0 };
        let channel = name(channel);
        let joined = self.node.join(&channel, connection, Some(RETENTION), resume);
        timeout(PATIENCE, joined).await.expect("in time")
    }

    pub(crate) async fn keep(&self, channel: &str, text: String) -> Position {
        let publication = Publication::new(name(channel), Kind::Text, text.into());
        let (reply, outcome) = oneshot::channel();
        let publish = Publish { publication, retention: Some(RETENTION), terms: None };
        self.node.publish(publish, ReplyTo::Caller(reply));
        outcome.await.unwrap().expect("it happens").expect("it has a position")
    }

    /// Takes from the inbox until `is_done` says so of a notice.
    pub(crate) async fn take_until(&self, mut is_done: impl FnMut(Notice) -> bool) {
        let taken = async {
            let mut turn = Vec::new();
            loop {
                self.inbox.filled().await;
                self.inbox.take(&mut turn);
                for notice in turn.drain(..) {
                    if is_done(notice) {
                        return;
                    }
                }
            }
        };
        timeout(PATIENCE, taken).await.expect("it comes in time");
    }

    pub(crate) async fn joined(&self, mut count: usize) -> Vec<Snapshot> {
        let mut snapshots = Vec::new();
        self.take_until(|notice| {
            if let Notice::Joined(joined) = notice {
                snapshots.push(joined.snapshot);
                count -= 1;
            }
            count == 0
        })
        .await;
        snapshots
    }
}

impl Drop for Healing {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn sweep(node: Arc<Node>) {
    let mut ticks = interval(Duration::from_secs(1));
    for number in 0.. {
        ticks.tick().await;
        node.sweep(number, std::time::Instant::now());
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// How often Redis ran a command.
fn calls(server: &RedisServer, command: &str) -> usize {
    let stats: String = server.run_command(&[b"INFO", b"commandstats"]);
    let start = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

fn scripts(server: &RedisServer) -> usize {
    calls(server, "eval") + calls(server, "evalsha")
}

/// How often something was read that was missed: what else runs scripts, as probes do, does not ask
/// how long it is kept.
fn reads(server: &RedisServer) -> usize {
    calls(server, "pttl")
}

fn wait_for(healing: &Healing, status: Status) {
    tokio::task::block_in_place(|| {
        wait_until("the status changes", || Status::of(&healing.broker) == status);
    });
}

/// What was missed is far more than one answer of Redis may be long, and than may be in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_of_many_megabytes_is_healed_in_full_and_page_by_page() {
    const COUNT: usize = 3000;
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let cut_off = Healing::start(&proxy.url()).await;
    let other = Healing::start(&format!("redis+unix://{}", server.socket().display())).await;
    cut_off.join("c", 0, None).await;
    cut_off.joined(1).await;
    proxy.lose_answers();
    for number in 0..COUNT {
        other.keep("c", format!("{number} {}", "x".repeat(20_000))).await;
    }
    let before = calls(&server, "xrange");
    proxy.cut();
    let mut next = 0;
    cut_off
        .take_until(|notice| {
            let publication = match notice {
                Notice::Publication(publication) => publication,
                Notice::Turned(_, turn) => panic!("{turn:?}"),
                _ => return false,
            };
            let number = str::from_utf8(publication.data()).unwrap().split(' ').next().unwrap();
            assert_eq!(number, next.to_string());
            next += 1;
            next == COUNT
        })
        .await;
    assert!(calls(&server, "xrange") - before >= COUNT * 20_000 / (1 << 20), "page by page");
    // And it is live again.
    other.keep("c", "live".to_owned()).await;
    cut_off
        .take_until(|notice| matches!(notice, Notice::Publication(it) if it.data() == b"live"))
        .await;
}

/// A history is read in pages too, and told up to a bound: who wants more asks behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_is_told_up_to_a_bound() {
    const COUNT: u64 = 1200;
    let server = RedisServer::start();
    let node = Healing::start(&format!("redis+unix://{}", server.socket().display())).await;
    for number in 0..COUNT {
        node.keep("small", number.to_string()).await;
        node.keep("large", "x".repeat(40_000)).await;
    }
    let told = async |channel: &str, is_reverse| {
        let query = HistoryQuery { since: None, limit: usize::MAX, is_reverse };
        let history = node.node.history(&name(channel), query, RETENTION).await.unwrap();
        assert_eq!(history.top.offset, COUNT);
        let offsets = history.publications.iter().map(|it| it.position().unwrap().offset);
        offsets.collect::<Vec<_>>()
    };
    assert!(told("small", false).await.into_iter().eq(1..=COUNT));
    assert!(told("small", true).await.into_iter().eq((1..=COUNT).rev()));
    let large = told("large", false).await;
    let least = HISTORY_BYTES_MAX as u64 / 40_000;
    assert!((least..COUNT).contains(&(large.len() as u64)));
    assert!(large.iter().copied().eq(1..=large.len() as u64));
}

/// A large gap over a slow way: it takes longer than any question may, and yet no link is given up,
/// and other channels do not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_way_to_redis_delays_the_large_gap_alone() {
    let (count, bytes) = (800, 30_000);
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let cut_off = Healing::start(&proxy.url()).await;
    let other = Healing::start(&format!("redis+unix://{}", server.socket().display())).await;
    cut_off.join("c", 0, None).await;
    cut_off.joined(1).await;
    proxy.lose_answers();
    for _ in 0..count {
        other.keep("c", "x".repeat(bytes)).await;
    }
    proxy.slow_down(3);
    proxy.cut();
    let (mut healed, mut joined) = (0, Vec::new());
    let take = |notice| {
        match notice {
            Notice::Publication(_) => healed += 1,
            Notice::Joined(_) => joined.push(healed),
            other => panic!("{other:?}"),
        }
        healed == count
    };
    wait_for(&cut_off, Status::Lost);
    wait_for(&cut_off, Status::Ready);
    for number in 0..3 {
        cut_off.join(&format!("other {number}"), 1, None).await;
    }
    cut_off.take_until(take).await;
    assert_eq!(joined.len(), 3);
    assert!(joined.iter().all(|healed| *healed < count), "{joined:?} of {count}");
    assert_eq!(cut_off.metrics.reads_lost.get(), 0);
    wait_for(&cut_off, Status::Ready);
}

/// Most channels were silent while a link was away: to know that must not cost a read each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_that_missed_nothing_are_asked_about_by_the_hundred() {
    const COUNT: usize = 1000;
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let healing = Healing::start(&proxy.url()).await;
    let other = Healing::start(&format!("redis+unix://{}", server.socket().display())).await;
    let channel = |number: usize| format!("c{number}");
    let all = async |slot| {
        for number in 0..COUNT {
            healing.join(&channel(number), slot, None).await;
        }
        healing.joined(COUNT).await;
    };
    all(0).await;
    proxy.lose_answers();
    other.keep(&channel(7), "missed".to_owned()).await;
    let before = scripts(&server);
    proxy.cut();
    wait_for(&healing, Status::Lost);
    wait_for(&healing, Status::Ready);
    healing
        .take_until(|notice| matches!(notice, Notice::Publication(it) if it.data() == b"missed"))
        .await;
    // All channels stand again.
    all(1).await;
    let asked = scripts(&server) - before;
    assert!(asked < COUNT / 10, "{asked} scripts");
}

/// A crowd that comes back to one channel, each from where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_back_reads_redis_once() {
    const COUNT: u32 = 300;
    let server = RedisServer::start();
    let url = format!("redis+unix://{}", server.socket().display());
    let other = Healing::start(&url).await;
    let mut top = None;
    for number in 0..500 {
        top = Some(other.keep("c", number.to_string()).await);
    }
    let top = top.unwrap();
    let node = Healing::start(&url).await;
    node.join("c", 0, None).await;
    node.joined(1).await;
    let before = reads(&server);
    let joins = (0..COUNT).map(|slot| {
        let since = Since { offset: 100 + u64::from(slot), epoch: Some(top.epoch) };
        node.join("c", slot, Some(Resume { since, limit: 1000, is_cache: false }))
    });
    futures_join_all(joins).await;
    for snapshot in node.joined(COUNT as usize).await {
        let Position { offset, .. } = snapshot.position.unwrap();
        assert!(snapshot.recovered);
        let missed = snapshot.publications.iter().map(|it| it.position().unwrap().offset);
        assert!(missed.eq(offset + 1..=top.offset));
    }
    let asked = reads(&server) - before;
    assert!(asked <= 3, "{asked} reads");
}

async fn futures_join_all(joins: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut joins: Vec<_> = joins.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        joins.retain_mut(|join| join.as_mut().poll(cx).is_pending());
        if joins.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// After a restart in which nothing was lost nobody is told that something was, and one read serves
/// all who come back: a history may have been removed meanwhile, so it takes that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_after_a_restart_of_redis_is_served_by_one_read() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let url = format!("redis+unix://{}", server.socket().display());
    let node = Healing::start(&url).await;
    node.join("c", 0, None).await;
    node.joined(1).await;
    let mut positions = Vec::new();
    for number in 0..20 {
        positions.push(node.keep("c", number.to_string()).await);
    }
    tokio::task::block_in_place(|| {
        server.crash();
        server.run();
    });
    wait_for(&node, Status::Ready);
    // The first that the new process publishes.
    node.keep("c", "20".to_owned()).await;
    node.take_until(|notice| match notice {
        Notice::Turned(_, turn) => {
            assert_eq!(turn, Turn::Moved);
            true
        }
        _ => false,
    })
    .await;
    let before = reads(&server);
    for (slot, position) in (1..).zip(&positions) {
        let since = Since { offset: position.offset, epoch: Some(position.epoch) };
        node.join("c", slot, Some(Resume { since, limit: 100, is_cache: false })).await;
    }
    let snapshots = node.joined(20).await;
    assert!(snapshots.iter().all(|snapshot| snapshot.recovered));
    assert!(snapshots.iter().map(|it| it.publications.len()).eq((1..=20).rev()));
    assert_eq!(reads(&server) - before, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_joined_as_soon_as_its_lane_carries_anything() {
    let server = RedisServer::start();
    let healing = Healing::start(&format!("redis+unix://{}", server.socket().display())).await;
    server.run_command::<usize>(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
    // What other nodes need a moment for does not concern who joins.
    tokio::task::block_in_place(|| {
        wait_until("the lane is back", || {
            let outages = healing.broker.outages(None);
            outages.iter().any(|outage| &*outage.reason == "is back only just")
        });
    });
    healing.join("c", 0, None).await;
    healing.joined(1).await;
}
