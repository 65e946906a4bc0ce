//! What happens to one shard of a cluster happens to its own channels, and to no others.

use std::time::Duration;

use dunlin_core::{error::PublishError, publication::Kind};
use dunlin_redis::{broker::Settings, queue::QueueBounds};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{Cluster, Failover},
    clustered::{slot, there_and_back, url},
    history::{history, keep, kept},
    lanes::{LITTLE, outages, talk, unless_blocked},
    node::{Node, Status, ended},
    server::wait_until,
};

/// Without this all primaries refuse keys from when a shard is dead, until it is not.
const ALONE: [&str; 2] = ["--cluster-require-full-coverage", "no"];

fn blocking<T>(act: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(act)
}

async fn start_node(cluster: &Cluster) -> Node {
    // Who cannot be served has to be told soon, for these tests to be quick.
    let queue = QueueBounds { age: Duration::from_secs(1), ..QueueBounds::default() };
    let settings = Settings { queue, ..Settings::new(url(cluster).parse().unwrap()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    node.wait_for(Status::Ready);
    node
}

/// A channel of each primary.
async fn channels(node: &Node) -> Vec<String> {
    let is_of = |channel: &String, primary: usize| there_and_back(slot(channel)).0 == primary;
    let find = |primary| (0..100).map(|it| format!("c{it}")).find(|it| is_of(it, primary)).unwrap();
    let channels: Vec<_> = (0..3).map(find).collect();
    for channel in &channels {
        node.join(channel).await;
        talk(node, channel).await;
    }
    channels
}

/// Talks to channels all the time, which must not notice anything.
async fn talk_undisturbed(node: &Node, channels: &[String], how_long: Duration) {
    let began = Instant::now();
    while began.elapsed() < how_long {
        for channel in channels {
            let start = Instant::now();
            talk(node, channel).await;
            assert!(start.elapsed() < LITTLE, "{channel} took {:?}", start.elapsed());
            assert_eq!(outages(node, Some(channel)), []);
        }
        // So that the servers have time for one another.
        sleep(Duration::from_millis(5)).await;
    }
}

/// One shard is away for so long, which names it and refuses publishes to its channel.
async fn check_outage(cluster: &Cluster, node: &Node, channels: &[String], how_long: Duration) {
    talk_undisturbed(node, &channels[1..], Duration::from_secs(3)).await;
    let told = outages(node, None);
    let address = cluster.nodes[0].address();
    assert!(told.len() == 1 && told[0].0.contains(&address), "{told:?} and not {address}");
    assert_eq!(outages(node, Some(&channels[0])), told);
    let refused = node.publish(&channels[0], Kind::Text, b"refused");
    assert_eq!(ended(refused).await, Err(PublishError::Refused));
    talk_undisturbed(node, &channels[1..], how_long.saturating_sub(Duration::from_secs(4))).await;
}

async fn check_return(node: &Node, channels: &[String]) {
    let back = Instant::now();
    node.wait_for(Status::Ready);
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    for channel in channels {
        node.join(channel).await;
        talk(node, channel).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_stands_still_is_an_outage_of_its_own_channels() {
    let mut cluster = blocking(|| Cluster::start_with(0, &ALONE));
    let node = start_node(&cluster).await;
    let channels = channels(&node).await;
    cluster.nodes[0].pause();
    check_outage(&cluster, &node, &channels, Duration::from_secs(5)).await;
    cluster.nodes[0].resume();
    blocking(|| cluster.wait_until_whole());
    check_return(&node, &channels).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_dead_in_whole_is_an_outage_of_its_own_channels() {
    let mut cluster = blocking(|| Cluster::start_with(1, &ALONE));
    let node = start_node(&cluster).await;
    let channels = channels(&node).await;
    let replica = blocking(|| cluster.replica_of(0));
    for dead in [replica, 0] {
        cluster.nodes[dead].kill();
    }
    check_outage(&cluster, &node, &channels, Duration::from_secs(6)).await;
    blocking(|| {
        for dead in [0, replica] {
            cluster.nodes[dead].run();
        }
        cluster.wait_until_whole();
    });
    check_return(&node, &channels).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_primary_gets_a_lane_and_one_that_has_nothing_is_missed_by_nobody() {
    let mut cluster = blocking(|| Cluster::start_with(0, &ALONE));
    let node = start_node(&cluster).await;
    let channels = channels(&node).await;
    let moving = slot(&channels[0]);
    let new = blocking(|| {
        // Else it would become a replica once it has nothing.
        let stays = ["--cluster-allow-replica-migration", "no"];
        let new = cluster.add_primary(&[&ALONE[..], &stays].concat());
        cluster.move_slots(moving..=moving, 0, new);
        new
    });
    // Servers are told of a move by one another.
    let heard = |cluster: &Cluster, at: usize| {
        let shards: Vec<String> = cluster.nodes[at].ask(&["PUBSUB", "SHARDCHANNELS"]);
        shards.iter().any(|shard| shard.ends_with(&channels[0]))
    };
    unless_blocked("it is heard at its new place alone", || {
        heard(&cluster, new) && !heard(&cluster, 0)
    });
    check_return(&node, &channels).await;

    // Its channels are an outage when it is away, and of that lane.
    cluster.nodes[new].pause();
    unless_blocked("it is named", || !outages(&node, Some(&channels[0])).is_empty());
    let told = outages(&node, None);
    assert!(told.len() == 1 && told[0].0.contains(&cluster.nodes[new].address()), "{told:?}");
    cluster.nodes[new].resume();
    blocking(|| cluster.wait_until_whole());
    check_return(&node, &channels).await;

    blocking(|| cluster.move_slots(moving..=moving, new, 0));
    unless_blocked("it is heard at its old place alone", || {
        heard(&cluster, 0) && !heard(&cluster, new)
    });
    check_return(&node, &channels).await;
    assert_eq!(outages(&node, None), [], "who has nothing");
    cluster.nodes[new].kill();
    talk_undisturbed(&node, &channels, Duration::from_secs(4)).await;
    assert_eq!(outages(&node, None), [], "who has nothing may go");
}

/// Nobody tells the node that its primary has become a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_that_lags_behind_leads_no_publish_to_a_replica() {
    let cluster = blocking(|| Cluster::start(1));
    let allow = |rules: &[&str]| {
        let words = [&["ACL", "SETUSER", "ann"], rules].concat();
        blocking(|| cluster.nodes.iter().for_each(|server| server.ask(&words)));
    };
    allow(&["on", ">pass", "~*", "&*", "+@all"]);
    let url = url(&cluster).replace("://", "://ann:pass@");
    let queue = QueueBounds { age: Duration::from_secs(60), ..QueueBounds::default() };
    let settings = Settings { queue, ..Settings::new(url.parse().unwrap()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    let channel = &channels(&node).await[0];
    let before = kept(keep(&node, channel, "before")).await;
    node.receive(1).await;

    allow(&["-cluster"]);
    let (old, new) = (&cluster.nodes[0], cluster.replica_of(0));
    blocking(|| cluster.fail_over(new, Failover::Planned));
    let (mut keeping, mut plain) =
        (keep(&node, channel, "kept"), node.publish(channel, Kind::Text, b"plain"));
    blocking(|| {
        wait_until("the old primary has sent it away", || {
            old.fact(&["INFO", "errorstats"], "errorstat_MOVED").is_some()
        });
    });
    assert!(keeping.try_recv().is_err() && plain.try_recv().is_err(), "nobody has done it");
    assert_eq!(node.take_texts(), [""; 0], "and nobody has heard it");

    allow(&["+cluster"]);
    let after = kept(keeping).await;
    assert_eq!((after.offset, ended(plain).await), (before.offset + 1, Ok(None)));
    let mut heard = node.receive_texts(2).await;
    heard.sort_unstable();
    assert_eq!(heard, ["kept", "plain"]);
    let (_, all) = history(&node, channel).await;
    assert!(all.ends_with(&["before".to_owned(), "kept".to_owned()]), "{all:?}");
}
