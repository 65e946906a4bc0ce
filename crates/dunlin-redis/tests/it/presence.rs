//! Who is present, when all is well and when nodes and servers die.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use dunlin_core::{
    error::BrokerLost,
    presence::{
        Farewell::{Announced, Silent},
        PresenceStats, PresenceStore, conformance,
    },
    publication::{ClientInfo, Kind},
};
use dunlin_redis::{
    broker::Settings,
    keys::Keys,
    partition::Partition,
    presence::{LEASE, RedisPresence},
};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    node::{Node, Status, name},
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
    let mut clients: Vec<_> = members.first.iter().map(|info| info.client.to_string()).collect();
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

/// Every key of presence that Redis has, but for those that remember a dead node for a while.
fn keys(server: &RedisServer) -> Vec<String> {
    let keys: Vec<String> = server.run_command(&[b"KEYS", b"dunlin2:*"]);
    let is_mark = |key: &String| {
        let kind: String = server.run_command(&[b"TYPE", key.as_bytes()]);
        let read = || server.run_command::<Option<String>>(&[b"GET", key.as_bytes()]);
        kind == "string" && read().as_deref() == Some("swept")
    };
    // What probes write.
    let is_probe = |key: &String| {
        key.ends_with("dunlin:t") || ["dunlin:b:", "dunlin:w:"].iter().any(|it| key.contains(it))
    };
    keys.into_iter().filter(|key| !is_mark(key) && !is_probe(key)).collect()
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
        dies.add(&name(&format!("c{number}")), &member("dies"), Announced).await.unwrap();
    }
    lives.add(&name("c0"), &member("lives"), Announced).await.unwrap();
    assert_eq!(clients(&lives, "c0").await, ["dies", "lives"]);
    drop(dies);
    // Its node, its last call, its channels, and of one channel who has members, the members and
    // their users.
    until("all of it is gone", async || keys(&server).len() == 6).await;
    assert_eq!(clients(&lives, "c0").await, ["lives"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaves_of_a_dead_node_are_announced_once_to_every_node() {
    const MEMBERS: usize = 600;
    let server = RedisServer::start();
    let lives = [present(&server, SHORT_LEASE).await, present(&server, SHORT_LEASE).await];
    for (node, _) in &lives {
        node.join("c").await;
        node.join("end").await;
    }
    let (_node, dies) = present(&server, SHORT_LEASE).await;
    for number in 0..MEMBERS {
        let info = ClientInfo {
            conn_info: (number % 2 == 0).then(|| Bytes::from_static(b"{}")),
            ..member(&number.to_string())
        };
        dies.add(&name("c"), &info, Announced).await.unwrap();
    }
    dies.add(&name("c"), &member("silent"), Silent).await.unwrap();
    lives[0].1.add(&name("c"), &member("stays"), Announced).await.unwrap();
    drop(dies);
    until("all of it is swept", async || {
        let stats = lives[0].1.stats(&name("c")).await.unwrap();
        stats.clients == 1 && keys(&server).len() == 6
    })
    .await;
    // Nothing comes behind it, and who lives and leaves says so itself.
    for (_, presence) in &lives {
        presence.leave().await.unwrap();
    }
    lives[0].0.say("end", "end").await;
    for (node, _) in &lives {
        let mut received = node.receive(MEMBERS + 1).await;
        assert_eq!(received.pop().unwrap().data(), b"end");
        let mut left = HashSet::new();
        for publication in received {
            assert_eq!((publication.kind(), publication.channel()), (Kind::Leave, &name("c")));
            let info = publication.details().unwrap().info.clone().unwrap();
            assert!(left.insert(info.client.to_string()), "{} twice", info.client);
            assert_eq!(&*info.user, "user");
        }
        assert_eq!(left.len(), MEMBERS);
        assert!(!left.contains("silent") && !left.contains("stays"));
    }
}

/// A node that stood still for longer than its lease: what was said of its members is taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_node_that_comes_back_join_again_as_often_as_they_left() {
    const MEMBERS: usize = 20;
    let server = RedisServer::start();
    let (watcher, _sweeps) = present(&server, SHORT_LEASE).await;
    watcher.join("c").await;
    let (_node, away) = present(&server, SHORT_LEASE).await;
    for number in 0..MEMBERS {
        away.add(&name("c"), &member(&number.to_string()), Announced).await.unwrap();
    }
    let nodes = Keys::new("dunlin:").nodes(Partition::of(&name("c")));
    let nodes = str::from_utf8(&nodes).unwrap();
    let [node]: [String; 1] = server.run_command(&[b"ZRANGE", nodes.as_bytes(), b"0", b"-1"]);
    let mut told: Vec<(Kind, String)> = Vec::new();
    let listen = async |told: &mut Vec<_>| {
        told.extend(watcher.take().iter().map(|publication| {
            let info = publication.details().and_then(|details| details.info.clone());
            (publication.kind(), info.map_or(String::new(), |info| info.client.to_string()))
        }));
        // Polls: nobody tells when something comes.
        sleep(Duration::from_millis(1)).await;
    };
    let all = async {
        // Somebody sweeps before it renews its lease, sooner or later.
        while told.is_empty() {
            let words = ["ZADD", nodes, "XX", "0", &node].map(str::as_bytes);
            let _: u32 = server.run_command(&words);
            listen(&mut told).await;
        }
        while clients(&away, "c").await.len() < MEMBERS {
            listen(&mut told).await;
        }
        // What comes behind is told behind.
        watcher.say("c", "end").await;
        while told.last().is_none_or(|(kind, _)| *kind != Kind::Text) {
            listen(&mut told).await;
        }
    };
    timeout(Duration::from_secs(20), all).await.unwrap();
    for number in 0..MEMBERS {
        let of_member = told.iter().filter(|(_, client)| *client == number.to_string());
        let kinds: Vec<_> = of_member.map(|(kind, _)| *kind).collect();
        let pairs = kinds.chunks(2).all(|pair| pair == [Kind::Leave, Kind::Join]);
        assert!(pairs, "{number}: {kinds:?}");
    }
    assert!(told.len() > 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_counted_over_nodes_that_come_and_go() {
    let server = RedisServer::start();
    let (_node, lives) = present(&server, SHORT_LEASE).await;
    let (_node, dies) = present(&server, SHORT_LEASE).await;
    let channel = name("c");
    let of = |user: &str, client: &str| ClientInfo { user: user.into(), ..member(client) };
    // A name of 200 bytes has a length of two.
    let long = "u".repeat(200);
    for (presence, user, client) in
        [(&lives, "a", "1"), (&lives, &long, "2"), (&dies, "a", "3"), (&dies, "", "4")]
    {
        presence.add(&channel, &of(user, client), Announced).await.unwrap();
    }
    assert_eq!(lives.stats(&channel).await, Ok(PresenceStats { clients: 4, users: 3 }));
    lives.add(&channel, &of("b", "2"), Announced).await.unwrap();
    lives.add(&channel, &of("b", "2"), Announced).await.unwrap();
    assert_eq!(lives.stats(&channel).await, Ok(PresenceStats { clients: 4, users: 3 }));
    drop(dies);
    let rest = Ok(PresenceStats { clients: 2, users: 2 });
    until("the dead are swept", async || keys(&server).len() == 6).await;
    assert_eq!(lives.stats(&channel).await, rest);
    lives.remove(&channel, "1").await.unwrap();
    lives.remove(&channel, "2").await.unwrap();
    assert_eq!(keys(&server), [""; 0], "without members nothing is kept, not even a lease");
}

/// Those who live sweep once in ten seconds, and who died counts no more long before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_are_not_shown_whether_swept_or_not() {
    let server = RedisServer::start();
    let (_node, lives) = present(&server, LEASE).await;
    let (_node, dies) = present(&server, SHORT_LEASE).await;
    let channel = name("c");
    dies.add(&channel, &member("dies"), Announced).await.unwrap();
    lives.add(&channel, &member("lives"), Announced).await.unwrap();
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
        presence.add(&name("c"), &member(client), Announced).await.unwrap();
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
    node.wait_for(Status::Ready);
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
        presence.add(&channel, &member(client), Announced).await.unwrap();
    }
    tokio::task::block_in_place(|| server.crash());
    node.wait_for(Status::Lost);
    let start = Instant::now();
    assert_eq!(presence.remove(&channel, "goes").await, Err(BrokerLost));
    assert_eq!(presence.add(&channel, &member("comes"), Announced).await, Err(BrokerLost));
    assert_eq!(presence.members(&channel).await, Err(BrokerLost));
    assert!(start.elapsed() < Duration::from_secs(6), "told soon: {:?}", start.elapsed());
    tokio::task::block_in_place(|| server.run());
    node.wait_for(Status::Ready);
    let is_so = async || clients(&presence, "c").await == ["comes", "stays"];
    until("the last wishes are known", is_so).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_does_not_keep_a_node_from_stopping() {
    let server = RedisServer::start();
    let (_node, presence) = present(&server, LEASE).await;
    presence.add(&name("c"), &member("client"), Announced).await.unwrap();
    server.signal(Signal::STOP);
    let start = Instant::now();
    assert_eq!(presence.leave().await, Err(BrokerLost));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(presence.add(&name("c"), &member("late"), Announced).await, Err(BrokerLost));
}

/// A frozen server does what it was sent on a connection that was given up, later than what came
/// after on another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_late_changes_nothing() {
    let server = RedisServer::start();
    let (_node, presence) = present(&server, LEASE).await;
    let channel = name("c");
    presence.add(&channel, &member("goes"), Announced).await.unwrap();
    presence.add(&channel, &member("stays"), Announced).await.unwrap();
    presence.remove(&channel, "goes").await.unwrap();

    let (names, partition) = (Keys::new("dunlin:"), Partition::of(&channel));
    let (nodes, start) = (names.nodes(partition), names.start(partition));
    let [nodes, start] = [&nodes, &start].map(|key| str::from_utf8(key).unwrap());
    let [node]: [String; 1] = server.run_command(&[b"ZRANGE", nodes.as_bytes(), b"0", b"-1"]);
    let script = [
        include_str!("../../src/lua/presence_member.lua"),
        include_str!("../../src/lua/presence_keep.lua"),
    ]
    .concat();
    // The message that announces that user `u` left as client `c`.
    let known = b"1\xFF\x13\x10\x05\x01\x01u\x01c";
    let late_call = |number: &str, client: &str| -> u32 {
        let call = ["EVAL", &script, "1", nodes, start, &node, "25000", number, "keep", "dunlin:"];
        let words = call.into_iter().chain(["c", client]).map(str::as_bytes);
        server.run_command(&words.chain([&known[..], b"0"]).collect::<Vec<_>>())
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
        let added = presence.add(&channel, &info, Announced);
        let cut = async {
            // Time for the call to be on its way.
            sleep(Duration::from_millis(20)).await;
            proxy.cut();
        };
        let (added, ()) = tokio::join!(added, cut);
        assert_eq!(added, Ok(()));
        assert_eq!(clients(&presence, "c").await.len(), round + 1);
    }
    let lane = proxy.url().to_string();
    let reconnects = dunlin_redis::metrics::LinkLabel { lane, link: "read" };
    wait_until("the cuts are counted", || {
        node.metrics.reconnects.get_or_create(&reconnects).get() >= 5
    });
}
