//! Sentinels replace the primary under load: nothing acknowledged is missed in silence, nothing
//! comes twice in silence, and it goes on at once.

use std::time::Duration;

use dunlin_redis::broker::Settings;

use crate::{
    load::{Load, Loss},
    node::Node,
    sentinels::{SERVICE, Sentinels},
};

fn url(set: &Sentinels) -> String {
    let addresses: Vec<_> = set.sentinels.iter().map(|it| it.address()).collect();
    format!("redis+sentinel://{}/{SERVICE}", addresses.join(","))
}

async fn check(change: impl FnOnce(&mut Sentinels) -> usize, loss: Loss) {
    let mut set = tokio::task::block_in_place(Sentinels::start);
    let load = Load::start(&url(&set), &["numbers"]).await;
    tokio::task::block_in_place(|| change(&mut set));
    load.wait_until_back();
    load.end().await.check(loss);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_goes_on_at_once() {
    // The sentinels promote a replica while the old primary still takes publishes.
    check(|set| set.fail_over(), Loss::Tail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_replaced() {
    let change = |set: &mut Sentinels| {
        set.servers[0].kill();
        set.wait_for_successor(0)
    };
    check(change, Loss::Tail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_comes_back_misleads_nobody() {
    let change = |set: &mut Sentinels| {
        set.servers[0].kill();
        let new = set.wait_for_successor(0);
        set.servers[0].run();
        new
    };
    check(change, Loss::Tail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_of_sentinels_it_goes_on() {
    let change = |set: &mut Sentinels| {
        set.sentinels[0].kill();
        set.sentinels[1].kill();
        0
    };
    check(change, Loss::None).await;
}

async fn refusal(url: &str) -> String {
    let mut settings = Settings::new(url.parse().unwrap());
    settings.connect_timeout = Duration::from_secs(2);
    match Node::start_with(settings, 1000).await {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_says_what_the_sentinels_lack() {
    let mut set = tokio::task::block_in_place(Sentinels::start);
    let right = url(&set);
    let refusal_of_name = refusal(&right.replace(SERVICE, "other")).await;
    assert!(refusal_of_name.contains("No such master"), "{refusal_of_name}");
    let server = set.servers[0].address();
    let no_sentinel = refusal(&format!("redis+sentinel://{server}/{SERVICE}")).await;
    assert!(no_sentinel.contains("it is no sentinel"), "{no_sentinel}");
    set.sentinels.iter_mut().for_each(|sentinel| sentinel.kill());
    let nobody = refusal(&right).await;
    assert!(
        nobody.contains("has no primary: ") && nobody.contains("cannot be reached"),
        "{nobody}"
    );
}
