//! A cluster fails over and moves slots under load: nothing acknowledged is missed in silence,
//! nothing comes twice, and it goes on at once.

use std::time::Duration;

use dunlin_redis::partition::{Partition, SLOTS};

use crate::{
    cluster::{Cluster, Failover},
    load::{Load, Loss},
    node::name,
};

/// Spread over all primaries.
const CHANNELS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

pub(crate) fn url(cluster: &Cluster) -> String {
    format!("redis+cluster://{}", cluster.nodes[0].address())
}

async fn check(replicas: usize, change: impl FnOnce(&mut Cluster), loss: Loss) {
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(replicas));
    let load = Load::start(&url(&cluster), &CHANNELS).await;
    tokio::task::block_in_place(|| change(&mut cluster));
    load.wait_until_back();
    load.end().await.check(loss);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_carries_all_channels() {
    check(0, |_| {}, Loss::None).await;
}

/// Where everything of a channel is.
pub(crate) fn slot(channel: &str) -> u16 {
    Partition::of(&name(channel)).slot()
}

/// The primary of a slot at the start, and another one.
pub(crate) fn there_and_back(slot: u16) -> (usize, usize) {
    let source = usize::from(slot) * 3 / usize::from(SLOTS);
    (source, (source + 1) % 3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_there_and_back_lose_nothing() {
    let change = |cluster: &mut Cluster| {
        for slot in CHANNELS.map(slot) {
            let (source, target) = there_and_back(slot);
            cluster.move_slots(slot..=slot, source, target);
        }
        for slot in CHANNELS.map(slot) {
            let (source, target) = there_and_back(slot);
            cluster.move_slots(slot..=slot, target, source);
        }
    };
    check(0, change, Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_keys_move_slowly_is_a_pause_of_its_channels() {
    let change = |cluster: &mut Cluster| {
        let slot = slot(CHANNELS[0]);
        let (source, target) = there_and_back(slot);
        cluster.begin_move(slot, source, target);
        // How long keys that are new are asked for at the target (ASK).
        std::thread::sleep(Duration::from_millis(500));
        cluster.move_keys(slot, source, target);
        // And all keys.
        std::thread::sleep(Duration::from_millis(500));
        cluster.finish_move(slot, source, target);
    };
    check(0, change, Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_at_once_lose_nothing() {
    let change = |cluster: &mut Cluster| {
        if cluster.nodes[0].product().moves_slots_atomically() {
            let slot = slot(CHANNELS[0]);
            let (source, target) = there_and_back(slot);
            cluster.move_slots_atomically(&(slot..=slot), source, target);
            cluster.move_slots_atomically(&(slot..=slot), target, source);
        }
    };
    check(0, change, Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_loses_nothing() {
    let change = |cluster: &mut Cluster| {
        for primary in 0..3 {
            cluster.fail_over(cluster.replica_of(primary), Failover::Planned);
        }
        cluster.wait_until_whole();
    };
    check(1, change, Loss::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_failover_is_followed() {
    let change = |cluster: &mut Cluster| {
        cluster.fail_over(cluster.replica_of(0), Failover::Takeover);
        cluster.wait_until_whole();
    };
    check(1, change, Loss::Tail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_crashed_is_replaced() {
    let change = |cluster: &mut Cluster| {
        cluster.nodes[0].kill();
        cluster.wait_until_whole();
        cluster.nodes[0].run();
    };
    check(1, change, Loss::Tail).await;
}
