//! Which lane follows which shard.

use dunlin_core::interest::Interest;

use super::*;
use crate::{
    envelope::Format,
    keys::Keys,
    lane::founder::Founder,
    metrics::LinkMetrics,
    partition::Partition,
    queue::QueueBounds,
    shares::Shares,
    tasks::Tasks,
    url::{Endpoint, Security},
};

fn following() -> Following {
    let url = "redis+cluster://127.0.0.1:1".parse().unwrap();
    let dialer = Dialer::new(url, None, Duration::from_secs(1), 1024).unwrap();
    let founder = Founder {
        keys: Keys::new("dunlin:").sharded(),
        format: Format::default(),
        bounds: QueueBounds::default(),
        interest: Arc::new(Interest::new(Vec::new())),
        metrics: LinkMetrics::default(),
        returns: watch::Sender::new(()),
        tasks: Tasks::new(),
        link_channels_max: 100_000,
    };
    let doubt = Arc::new(Notify::new());
    let lanes = Arc::new(Lanes::new(Shares::even(1), Arc::clone(&doubt)));
    Following::new(lanes, founder, dialer, doubt)
}

/// A shard that has one partition, by its place: the primary first, then its replicas.
fn shard(nodes: &str, place: usize) -> Shard {
    let names = nodes.chars().map(|name| NodeId::new(&name.to_string()));
    let port = 1 + nodes.as_bytes()[0] as u16;
    Shard {
        primary: Endpoint::Tcp { host: "127.0.0.1".to_owned(), port, security: Security::Plain },
        primary_id: names.clone().next().unwrap(),
        nodes: names.collect(),
        partitions: vec![Partition::all().nth(place).unwrap()],
    }
}

/// Settles, and tells the lanes of the first partitions.
async fn settle(following: &mut Following, shards: &[Shard]) -> Vec<usize> {
    let map = Map { shards: shards.to_vec() };
    while !following.settle(&map) {
        // The links hand over what is on its way.
        tokio::task::yield_now().await;
    }
    let shares = &following.lanes.shares;
    Partition::all().take(shards.len()).map(|it| shares.lane(it)).collect()
}

#[tokio::test]
async fn a_shard_keeps_its_lane_whoever_is_its_primary() {
    let mut following = following();
    assert_eq!(settle(&mut following, &[shard("ax", 0), shard("by", 1)]).await, [0, 1]);
    assert_eq!(settle(&mut following, &[shard("by", 1), shard("xa", 0)]).await, [0, 1]);
    assert_eq!(settle(&mut following, &[shard("by", 1), shard("ax", 0)]).await, [0, 1]);
}

#[tokio::test]
async fn a_replica_that_becomes_a_shard_of_its_own_leaves_the_lane_to_its_primary() {
    let mut following = following();
    assert_eq!(settle(&mut following, &[shard("ax", 0)]).await, [0]);
    assert_eq!(settle(&mut following, &[shard("x", 1), shard("a", 0)]).await, [0, 1]);
}

#[tokio::test]
async fn who_lost_all_and_takes_over_elsewhere_goes_on_in_the_lane_there() {
    let mut following = following();
    assert_eq!(settle(&mut following, &[shard("a", 0), shard("b", 1)]).await, [0, 1]);
    let all_at_a =
        |nodes| Shard { partitions: Partition::all().take(2).collect(), ..shard(nodes, 0) };
    for nodes in ["ab", "ba"] {
        assert_eq!(settle(&mut following, &[all_at_a(nodes)]).await, [0]);
        assert_eq!(following.lanes.shares.lane(Partition::all().nth(1).unwrap()), 0, "{nodes}");
    }
}

#[tokio::test]
async fn what_has_nothing_is_not_dialled_until_it_has() {
    let mut following = following();
    let (a, b) = (shard("a", 0), shard("b", 1));
    settle(&mut following, &[a.clone(), b.clone()]).await;
    let is_needless =
        |it: &Following, lane: usize| *it.shards[lane].news.borrow() == News::Needless;
    let all_at_a = Shard { partitions: Partition::all().take(2).collect(), ..a.clone() };
    settle(&mut following, &[all_at_a]).await;
    assert!(is_needless(&following, 1) && !is_needless(&following, 0));
    assert_eq!(settle(&mut following, &[a, b]).await, [0, 1]);
    assert!(!is_needless(&following, 1));
}
