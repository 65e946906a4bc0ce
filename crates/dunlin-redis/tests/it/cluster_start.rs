//! Starting with a cluster: the contracts over it, which nodes may be away, and the sentences that
//! refuse.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dunlin_core::{
    broker::{Broker, conformance},
    interest::Interest,
    presence::{self, PresenceStore},
};
use dunlin_redis::{
    broker::{RedisBroker, Settings},
    metrics::LinkMetrics,
    presence::{LEASE, RedisPresence},
};

use crate::{
    cluster::{Cluster, Failover, start_node},
    clustered::url,
    instance::Instance,
    node::Node,
    server::free_port,
    start::{refusal, talks},
};

fn settings(url: &str) -> Settings {
    Settings::new(url.parse().unwrap())
}

async fn broker(url: &str) -> Arc<RedisBroker> {
    let interest = Arc::new(Interest::new(Vec::new()));
    RedisBroker::start(settings(url), interest, LinkMetrics::default()).await.unwrap()
}

/// The url of these nodes.
fn seeds(addresses: &[String]) -> String {
    format!("redis+cluster://{}", addresses.join(","))
}

fn nobody() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn start_cluster(replicas: usize, arguments: &[&str]) -> Cluster {
    tokio::task::block_in_place(|| Cluster::start_with(replicas, arguments))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_conforms() {
    let cluster = start_cluster(0, &[]);
    conformance::run(|interest| {
        let settings = settings(&url(&cluster));
        async {
            let broker = RedisBroker::start(settings, interest, LinkMetrics::default()).await;
            broker.unwrap() as Arc<dyn Broker>
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_in_a_cluster_conforms() {
    const SHORT_LEASE: Duration = Duration::from_secs(1);
    let cluster = start_cluster(0, &[]);
    let url = url(&cluster);
    presence::conformance::run(RedisPresence::start(broker(&url).await, LEASE)).await;
    let start = || async {
        RedisPresence::start(broker(&url).await, SHORT_LEASE) as Arc<dyn PresenceStore>
    };
    presence::conformance::run_together(start, SHORT_LEASE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_that_lives_is_enough_a_replica_too() {
    let cluster = start_cluster(1, &[]);
    let live = |number: usize| cluster.nodes[number].address();
    for addresses in [vec![nobody(), live(1), nobody()], vec![live(5)]] {
        let began = Instant::now();
        let node = Node::start_with(settings(&seeds(&addresses)), 1000).await.unwrap();
        talks(&node).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    // The node that was named is not the owner of anything any more.
    let node = Node::start_with(settings(&seeds(&[live(0)])), 1000).await.unwrap();
    tokio::task::block_in_place(|| {
        cluster.fail_over(cluster.replica_of(0), Failover::Planned);
        cluster.wait_until_whole();
    });
    talks(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_said_in_time() {
    let (one, other) = (nobody(), nobody());
    for start_wait in [Duration::ZERO, Duration::from_secs(1)] {
        let url = seeds(&[one.clone(), other.clone()]);
        let connect_timeout = Duration::from_millis(500);
        let settings = Settings { start_wait, connect_timeout, ..settings(&url) };
        let began = Instant::now();
        let refusal = refusal(settings).await;
        let took = began.elapsed();
        assert!(took < start_wait.max(connect_timeout) + Duration::from_millis(300), "{took:?}");
        assert!(refusal.starts_with(&format!("redis at {url} has no primary: ")), "{refusal}");
        for address in [&one, &other] {
            assert!(refusal.contains(&format!("{address} cannot be reached: ")), "{refusal}");
        }
    }
}

/// What no waiting mends is said at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_cluster_of_ours_is_refused_at_once() {
    let alone = tokio::task::block_in_place(|| Instance::start(&[]));
    let cluster = start_cluster(0, &[]);
    for node in &cluster.nodes {
        node.ask::<()>(&["CONFIG", "SET", "requirepass", "s3cret"]);
    }
    let node = cluster.nodes[0].address();
    for (url, complaint) in [
        (seeds(&[alone.address()]), "is not a node of a cluster, as this address promises"),
        (format!("redis://:s3cret@{node}"), "is a node of a cluster, and not one server"),
        (format!("redis+cluster://{node}"), "wants a password, and the url has none"),
        (
            seeds(&[format!(":wrong@{node}"), cluster.nodes[1].address()]),
            "does not accept the user name or password",
        ),
    ] {
        let began = Instant::now();
        let start_wait = Duration::from_secs(20);
        let refusal = refusal(Settings { start_wait, ..settings(&url) }).await;
        assert!(refusal.contains(complaint), "{refusal}");
        assert!(!refusal.contains("wrong@") && !refusal.contains("s3cret"), "{refusal}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}: {refusal}", began.elapsed());
    }
    let url = seeds(&[format!(":s3cret@{node}")]);
    talks(&Node::start_with(settings(&url), 1000).await.unwrap()).await;
}

/// As while somebody is about to make a cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_own_nothing_yet_are_waited_for() {
    let node = tokio::task::block_in_place(|| start_node(&[]));
    let url = seeds(&[node.address()]);
    let hasty = Settings { connect_timeout: Duration::from_millis(500), ..settings(&url) };
    let refusal = refusal(hasty).await;
    assert!(refusal.ends_with("has no primary: no node owns any slot"), "{refusal}");
    let patient = Settings { start_wait: Duration::from_secs(20), ..settings(&url) };
    let starting = tokio::spawn(Node::start_with(patient, 1000));
    // Long enough for it to have asked.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!starting.is_finished());
    node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    talks(&starting.await.unwrap().unwrap()).await;
}
