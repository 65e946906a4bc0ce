//! Who is present, when all is well and when nodes and servers die.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    broker::BrokerStatus,
    error::BrokerLost,
    presence::{PresenceStats, PresenceStore, conformance},
    publication::ClientInfo,
};
use dunlin_redis::{
    broker::Settings,
    presence::{LEASE, RedisPresence},
};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    node::{Node, name},
    proxy::Proxy,
    server::{RedisServer, wait_until},
};

const SHORT_LEASE: Duration = Duration::from_secs(1);

async fn present(server: &RedisServer, lease: Duration) -> (Node, Arc<RedisPresence>) {
    let node = Node::start(server).await;
    let presence = RedisPresence::start(Arc::clone(&node.broker), lease);
    (node, presence)
}

fn member(client: &str) -> ClientInfo {
    ClientInfo { user: "user".into(), client: client.into(), conn_info: None, chan_info: None }
}

async fn clients(presence: &RedisPresence, channel: &str) -> Vec<String> {
    let members = presence.members(&name(channel)).await.unwrap();
    let mut clients: Vec<_> = members.iter().map(|info| info.client.to_string()).collect();
    clients.sort();
    clients
}

/// Polls up to a deadline: nobody tells when others see a change.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(10), "waited too long until {what}");
        // See above.
        sleep(Duration::from_millis(10)).await;
    }
}

/// Every key of presence that Redis has.
fn keys(server: &RedisServer) -> Vec<String> {
    server.run_command(&[b"KEYS", b"dunlin1:*"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let server = RedisServer::start();
    conformance::run(present(&server, LEASE).await.1).await;
    assert_eq!(keys(&server), [""; 0], "who left leaves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_conform_together() {
    let server = RedisServer::start();
    let start = || async { present(&server, SHORT_LEASE).await.1 as Arc<dyn PresenceStore> };
    conformance::run_together(start, SHORT_LEASE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_left_is_swept() {
    let server = RedisServer::start();
    let (_node, lives) = present(&server, SHORT_LEASE).await;
    let (_node, dies) = present(&server, SHORT_LEASE).await;
    for number in 0..300 {
        dies.add(&name(&format!("c{number}")), &member("dies")).await.unwrap();
    }
    lives.add(&name("c0"), &member("lives")).await.unwrap();
    assert_eq!(clients(&lives, "c0").await, ["dies", "lives"]);
    drop(dies);
    // Its node, its last call, its channels, and of one channel who has members, and the members.
    until("all of it is gone", async || keys(&server).len() == 5).await;
    assert_eq!(clients(&lives, "c0").await, ["lives"]);
}

/// Those who live sweep once in ten seconds, and who died counts no more long before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_are_not_shown_whether_swept_or_not() {
    let server = RedisServer::start();
    let (_node, lives) = present(&server, LEASE).await;
    let (_node, dies) = present(&server, SHORT_LEASE).await;
    let channel = name("c");
    dies.add(&channel, &member("dies")).await.unwrap();
    lives.add(&channel, &member("lives")).await.unwrap();
    let died = Instant::now();
    drop(dies);
    until("it is gone", async || clients(&lives, "c").await == ["lives"]).await;
    assert!(died.elapsed() < SHORT_LEASE + conformance::GRACE, "{:?}", died.elapsed());
    assert_eq!(lives.stats(&channel).await, Ok(PresenceStats { clients: 1, users: 1 }));
    assert!(keys(&server).len() > 5, "it was not swept yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_back_when_redis_has_lost_them() {
    let mut server = RedisServer::start();
    let (node, presence) = present(&server, LEASE).await;
    let (_node, other) = present(&server, LEASE).await;
    let everyone: Vec<_> = (0..600).map(|number| format!("{number:03}")).collect();
    for client in &everyone {
        presence.add(&name("c"), &member(client)).await.unwrap();
    }
    assert_eq!(clients(&other, "c").await, everyone);
    // At the latest the next change finds out.
    let _: String = server.run_command(&[b"FLUSHALL"]);
    presence.remove(&name("c"), &everyone[0]).await.unwrap();
    until("they are back", async || clients(&other, "c").await == everyone[1..]).await;
    // A restart is noticed at once.
    tokio::task::block_in_place(|| {
        server.crash();
        server.run();
    });
    node.wait_for(BrokerStatus::Ready);
    let stats = PresenceStats { clients: 599, users: 1 };
    let is_back = async || other.stats(&name("c")).await == Ok(stats);
    until("they are back", is_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wishes_outlive_an_outage() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (node, presence) = present(&server, LEASE).await;
    let channel = name("c");
    for client in ["goes", "stays"] {
        presence.add(&channel, &member(client)).await.unwrap();
    }
    tokio::task::block_in_place(|| server.crash());
    node.wait_for(BrokerStatus::Lost);
    let start = Instant::now();
    assert_eq!(presence.remove(&channel, "goes").await, Err(BrokerLost));
    assert_eq!(presence.add(&channel, &member("comes")).await, Err(BrokerLost));
    assert_eq!(presence.members(&channel).await, Err(BrokerLost));
    assert!(start.elapsed() < Duration::from_secs(6), "told soon: {:?}", start.elapsed());
    tokio::task::block_in_place(|| server.run());
    node.wait_for(BrokerStatus::Ready);
    let is_so = async || clients(&presence, "c").await == ["comes", "stays"];
    until("the last wishes are known", is_so).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_does_not_keep_a_node_from_stopping() {
    let server = RedisServer::start();
    let (_node, presence) = present(&server, LEASE).await;
    presence.add(&name("c"), &member("client")).await.unwrap();
    server.signal(Signal::STOP);
    let start = Instant::now();
    assert_eq!(presence.leave().await, Err(BrokerLost));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(presence.add(&name("c"), &member("late")).await, Err(BrokerLost));
}

/// A frozen server does what it was sent on a connection that was given up, later than what came
/// after on another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_late_changes_nothing() {
    let server = RedisServer::start();
    let (_node, presence) = present(&server, LEASE).await;
    let channel = name("c");
    presence.add(&channel, &member("goes")).await.unwrap();
    presence.add(&channel, &member("stays")).await.unwrap();
    presence.remove(&channel, "goes").await.unwrap();

    let [node]: [String; 1] = server.run_command(&[b"ZRANGE", b"dunlin1:dunlin:n", b"0", b"-1"]);
    let script = include_str!("../../src/lua/presence_keep.lua");
    let late_call = |number: &str, client: &str| -> u32 {
        let words = ["EVAL", script, "1", "dunlin1:dunlin:n", "dunlin1:dunlin:", &node, "25000"];
        let words = words.into_iter().chain([number, "0", "c", client, "what was known of it"]);
        server.run_command(&words.map(str::as_bytes).collect::<Vec<_>>())
    };
    assert_eq!(late_call("2", "goes"), 1);
    assert_eq!(presence.stats(&channel).await.unwrap().clients, 1);
    assert_eq!(late_call("1000", "comes"), 1, "one that is not late does");
    assert_eq!(presence.stats(&channel).await.unwrap().clients, 2);
    // Nor does one bring back a node that has left.
    presence.leave().await.unwrap();
    assert_eq!(late_call("1001", "goes"), 0);
    assert_eq!(keys(&server), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_cut_is_not_noticed() {
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let settings = Settings::new(proxy.url().parse().unwrap());
    let node = Node::start_with(settings, 1000).await.unwrap();
    let presence = RedisPresence::start(Arc::clone(&node.broker), LEASE);
    for round in 0..5 {
        let client = format!("client-{round}");
        proxy.lose_answers();
        let channel = name("c");
        let info = member(&client);
        let added = presence.add(&channel, &info);
        let cut = async {
            // Time for the call to be on its way.
            sleep(Duration::from_millis(20)).await;
            proxy.cut();
        };
        let (added, ()) = tokio::join!(added, cut);
        assert_eq!(added, Ok(()));
        assert_eq!(clients(&presence, "c").await.len(), round + 1);
    }
    let reconnects = dunlin_redis::metrics::LinkLabel { link: "read" };
    wait_until("the cuts are counted", || {
        node.metrics.reconnects.get_or_create(&reconnects).get() == 5
    });
}
