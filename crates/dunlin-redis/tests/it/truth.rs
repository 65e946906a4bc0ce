//! What a node says of its lane is true: a fault is named soon and not longer than it lasts,
//! nothing is acknowledged meanwhile that other nodes do not get, and nobody waits too long.

use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use dunlin_core::{
    broker::Broker,
    error::{PublishError, PublishOutcome},
    publication::Kind,
};
use dunlin_redis::{broker::Settings, keys::Keys, metrics::LinkLabel, url::RedisUrl};
use rustix::process::Signal;
use tokio::{
    sync::oneshot,
    time::{interval, sleep, timeout},
};

use crate::{
    history::{check_loss, history, keep, kept},
    node::{Node, Outcome, Status, ended, name},
    proxy::Proxy,
    server::{RedisServer, free_port, wait_until},
};

/// What its publisher was told of a publish, and after how long.
struct Told {
    text: String,
    outcome: PublishOutcome,
    waited: Duration,
}

fn tell(text: String, outcome: Outcome) -> impl Future<Output = Told> {
    let since = Instant::now();
    async move {
        let outcome = ended(outcome).await;
        Told { text, outcome, waited: since.elapsed() }
    }
}

/// Publishes numbers, kept and plain, until told to stop.
async fn publish(node: Arc<Node>, mut stop: oneshot::Receiver<()>) -> [Vec<Told>; 2] {
    let mut ticks = interval(Duration::from_millis(20));
    let (mut kept, mut plain) = (Vec::new(), Vec::new());
    while stop.try_recv().is_err() {
        let text = kept.len().to_string();
        kept.push(tokio::spawn(tell(text.clone(), keep(&node, "kept", &text))));
        let outcome = node.publish("plain", Kind::Text, text.as_bytes());
        plain.push(tokio::spawn(tell(text, outcome)));
        ticks.tick().await;
    }
    let [mut told_kept, mut told_plain] = [Vec::new(), Vec::new()];
    for (kept, plain) in kept.into_iter().zip(plain) {
        told_kept.push(kept.await.unwrap());
        told_plain.push(plain.await.unwrap());
    }
    [told_kept, told_plain]
}

/// Accepted is what is there once; what was refused is not there; and all is there in its order.
fn check(told: &[Told], there: &[String]) {
    let numbers: Vec<u32> = there.iter().filter_map(|text| text.parse().ok()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    for Told { text, outcome, waited } in told {
        let times = there.iter().filter(|it| *it == text).count();
        let is_right = match outcome {
            Ok(_) => times == 1,
            Err(PublishError::Unknown) => times <= 1,
            Err(_) => times == 0,
        };
        assert!(is_right, "{text} is there {times} times, and was {outcome:?}");
        assert!(*waited < ANSWER_MAX, "{text} was {outcome:?} after {waited:?}");
    }
}

/// The age of what waits, and a second.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// Two nodes that reach Redis in the same way.
struct Pair {
    publisher: Arc<Node>,
    listener: Node,
}

/// What becomes of what the server keeps.
#[derive(Clone, Copy, PartialEq)]
enum Data {
    Stays,
    Goes,
}

impl Pair {
    async fn start(url: &RedisUrl) -> Self {
        let start = || Node::start_with(Settings::new(url.clone()), 100_000);
        let (publisher, listener) = (start().await.unwrap(), start().await.unwrap());
        for node in [&publisher, &listener] {
            node.join("plain").await;
            assert_eq!(node.status(), Status::Ready);
        }
        Self { publisher: publisher.into(), listener }
    }

    /// Publishes while a fault begins, lasts and ends, and checks all that has to hold then.
    async fn endure(
        &self,
        reason: &str,
        lasts: Duration,
        begin: impl FnOnce(),
        end: impl FnOnce(),
        data: Data,
    ) {
        let (stop, stopped) = oneshot::channel();
        let publishing = tokio::spawn(publish(Arc::clone(&self.publisher), stopped));
        // How long all is well.
        sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        tokio::task::block_in_place(begin);
        self.wait_for_reason(reason).await;
        let noticed = began.elapsed();
        // How long it lasts at all.
        sleep(lasts.saturating_sub(began.elapsed())).await;
        tokio::task::block_in_place(end);
        let ended_at = Instant::now();
        self.publisher.wait_for(Status::Ready);
        let healed = ended_at.elapsed();
        self.listener.wait_for(Status::Ready);
        assert!(noticed < NOTICED_WITHIN, "noticed after {noticed:?}");
        assert!(healed < HEALED_WITHIN, "healed after {healed:?}");
        let again = keep(&self.publisher, "kept", "again");
        self.publisher.say("plain", "again").await;
        kept(again).await;
        stop.send(()).unwrap();
        let [told_kept, told_plain] = publishing.await.unwrap();
        self.publisher.say("plain", "end").await;
        check(&told_plain, &self.heard().await);
        if data == Data::Stays {
            check(&told_kept, &history(&self.listener, "kept").await.1);
        }
    }

    async fn wait_for_reason(&self, reason: &str) {
        let start = Instant::now();
        loop {
            let outages = self.publisher.broker.outages(None);
            if outages.iter().any(|outage| outage.reason.contains(reason)) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "no {reason} but {outages:?}");
            // Polls up to a deadline: a reason may be gone before anybody is told.
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// What the listener heard up to the end.
    async fn heard(&self) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| last != "end") {
            timeout(PATIENCE, self.listener.inbox.filled()).await.expect("the end comes");
            let texts = self.listener.take_texts().into_iter();
            heard.extend(texts.map(|text| String::from_utf8(text.to_vec()).unwrap()));
        }
        heard
    }
}

const NOTICED_WITHIN: Duration = Duration::from_secs(3);
const HEALED_WITHIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than a publish waits.
const LONG: Duration = Duration::from_secs(7);
const SHORT: Duration = Duration::from_secs(1);

/// A planned failover cuts no link: all go on talking to what is a replica now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_demoted_is_left_though_its_links_stand() {
    let ports = [free_port(), free_port()].map(|port| port.to_string());
    let start = |port: &str, more: &[&str]| {
        let arguments = ["--port", port, "--repl-diskless-sync-delay", "0"];
        RedisServer::start_with(&[&arguments[..], more].concat())
    };
    let old = start(&ports[0], &[]);
    let new = start(&ports[1], &["--replicaof", "127.0.0.1", &ports[0]]);
    let fact = |server: &RedisServer, fact: &str| {
        server.run_command::<String>(&[b"INFO", b"replication"]).contains(fact)
    };
    wait_until("the replica has all", || fact(&new, "master_link_status:up"));
    let proxy = Proxy::start(&old.socket());
    let pair = Pair::start(&proxy.url().parse().unwrap()).await;
    let begin = || {
        let to = [&b"FAILOVER"[..], b"TO", b"127.0.0.1", ports[1].as_bytes()];
        let _: String = old.run_command(&to);
        wait_until("it is demoted", || fact(&old, "role:slave") && fact(&new, "role:master"));
    };
    let end = || proxy.lead_to(&new.socket());
    pair.endure("is a replica", LONG, begin, end, Data::Stays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_is_an_outage() {
    let server = RedisServer::start();
    let pair = Pair::start(&server.url()).await;
    let maxmemory = |bytes: &[u8]| {
        let _: String = server.run_command(&[b"CONFIG", b"SET", b"maxmemory", bytes]);
    };
    let reason = "refuses what is published: OOM";
    pair.endure(reason, LONG, || maxmemory(b"1"), || maxmemory(b"0"), Data::Stays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_save_is_an_outage() {
    let server = RedisServer::start_with(&["--save", "3600 1", "--dbfilename", "kept.rdb"]);
    let pair = Pair::start(&server.url()).await;
    // A file cannot take the place of a folder.
    let folder = server.socket().with_file_name("kept.rdb");
    let save = |status: &str| {
        let _: String = server.run_command(&[b"BGSAVE"]);
        let status = format!("rdb_last_bgsave_status:{status}");
        wait_until("it has tried", || {
            server.run_command::<String>(&[b"INFO", b"persistence"]).contains(&status)
        });
    };
    let begin = || {
        fs::create_dir(&folder).unwrap();
        save("err");
    };
    let end = || {
        fs::remove_dir(&folder).unwrap();
        save("ok");
    };
    pair.endure("refuses what is published: MISCONF", SHORT, begin, end, Data::Stays).await;
}

/// Makes or changes a user; returns how to come as that.
fn set_user(server: &RedisServer, rules: &str) -> RedisUrl {
    let words = ["ACL", "SETUSER", "ann"].into_iter().chain(rules.split(' '));
    let words: Vec<_> = words.map(str::as_bytes).collect();
    let _: String = server.run_command(&words);
    format!("redis+unix://ann:pass@{}", server.socket().display()).parse().unwrap()
}

const ALL: &str = "on >pass ~* &* +@all";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_scripts_are_taken_away_is_an_outage() {
    let server = RedisServer::start();
    let pair = Pair::start(&set_user(&server, ALL)).await;
    let begin = || drop(set_user(&server, "-evalsha -eval"));
    let end = || drop(set_user(&server, "+evalsha +eval"));
    let reason = "refuses what is published: NOPERM";
    pair.endure(reason, SHORT, begin, end, Data::Stays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_channels_are_taken_away_is_an_outage() {
    let server = RedisServer::start();
    let pair = Pair::start(&set_user(&server, ALL)).await;
    set_user(&server, "resetchannels");
    pair.wait_for_reason("refuses what is published: ").await;
    // How long it lasts: long enough for the subscription of the probe to be refused, too.
    sleep(SHORT).await;
    set_user(&server, "allchannels");
    let ended_at = Instant::now();
    for node in [&pair.publisher, &pair.listener] {
        node.wait_for(Status::Ready);
        node.join("plain").await;
    }
    assert!(ended_at.elapsed() < HEALED_WITHIN, "healed after {:?}", ended_at.elapsed());
    pair.publisher.say("plain", "end").await;
    assert_eq!(pair.heard().await, ["end"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_pauses_writes_is_an_outage_though_it_answers_pings() {
    let server = RedisServer::start();
    let pair = Pair::start(&server.url()).await;
    let begin = || {
        let _: String = server.run_command(&[b"CLIENT", b"PAUSE", b"4000", b"WRITE"]);
    };
    let lasts = Duration::from_secs(4);
    pair.endure("does not answer what is published", lasts, begin, || {}, Data::Stays).await;
}

/// Busies a server until its script is killed.
fn busy(server: &RedisServer) {
    let client = server.client();
    thread::spawn(move || {
        let mut connection = client.get_connection().unwrap();
        redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut connection)
    });
    let mut connection = server.client().get_connection().unwrap();
    wait_until("the script runs", || redis::cmd("PING").exec(&mut connection).is_err());
}

fn kill_script(server: &RedisServer) {
    let mut connection = server.client().get_connection().unwrap();
    redis::cmd("SCRIPT").arg("KILL").exec(&mut connection).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_runs_a_script_for_long_is_an_outage() {
    let server = RedisServer::start_with(&["--busy-reply-threshold", "50"]);
    let pair = Pair::start(&server.url()).await;
    let (begin, end) = (|| busy(&server), || kill_script(&server));
    pair.endure("is not ready: BUSY", LONG, begin, end, Data::Stays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_an_outage() {
    let server = RedisServer::start();
    let pair = Pair::start(&server.url()).await;
    let (begin, end) = (|| server.signal(Signal::STOP), || server.signal(Signal::CONT));
    pair.endure("does not answer", LONG, begin, end, Data::Stays).await;
}

/// Both servers live, and neither carries what is published on the one to the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_come_to_different_servers_find_together() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let proxy = Proxy::start(&old.socket());
    let pair = Pair::start(&proxy.url().parse().unwrap()).await;
    let begin = || {
        proxy.lead_to(&new.socket());
        let _: u32 = old.run_command(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
    };
    pair.endure("", Duration::ZERO, begin, || {}, Data::Goes).await;
    tokio::task::block_in_place(|| {
        wait_until("all links have left it", || {
            !old.run_command::<String>(&[b"CLIENT", b"LIST"]).contains("name=dunlin")
        });
    });
}

/// A server that loads its data or runs a script for long does later what it is asked now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_to_a_busy_or_loading_server_happens_when_it_is_free() {
    let slowly = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    let busy_soon = ["--busy-reply-threshold", "50"];
    let mut server = RedisServer::start_with(&[&busy_soon[..], &slowly].concat());
    let node = Node::start(&server).await;
    node.join("plain").await;
    let publish = || (keep(&node, "kept", "kept"), node.publish("plain", Kind::Text, b"plain"));
    tokio::task::block_in_place(|| busy(&server));
    let (waiting, plain) = publish();
    node.wait_for(Status::Lost);
    tokio::task::block_in_place(|| kill_script(&server));
    assert_eq!(kept(waiting).await.offset, 1);
    assert_eq!(ended(plain).await, Ok(None));
    assert_eq!(node.receive_texts(1).await, ["plain"]);

    let _: String = server.run_command(&[b"DEBUG", b"POPULATE", b"1000", b"filler", b"100"]);
    let _: String = server.run_command(&[b"SAVE"]);
    tokio::task::block_in_place(|| {
        server.crash();
        server.run();
    });
    let mut connection = server.client().get_connection().unwrap();
    assert_eq!(redis::cmd("PING").exec(&mut connection).unwrap_err().code(), Some("LOADING"));
    let (waiting, plain) = publish();
    assert_eq!(kept(waiting).await.offset, 2);
    assert_eq!(ended(plain).await, Ok(None));
    assert_eq!(node.receive_texts(1).await, ["plain"]);
}

/// Waits until each link has left its first connection. One that hears it again before would stay.
fn wait_for_new_links(node: &Node, proxy: &Proxy) {
    let is_new = |link| {
        let label = LinkLabel { lane: proxy.url(), link };
        node.metrics.reconnects.get_or_create(&label).get() > 0
    };
    tokio::task::block_in_place(|| {
        wait_until("all links are new", || {
            ["publish", "subscribe", "read"].into_iter().all(is_new)
        });
    });
}

/// The network delivers what was sent on a lost connection after the repeat was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_network_held_does_not_happen_twice() {
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let settings = Settings::new(proxy.url().parse().unwrap());
    let node = Node::start_with(settings, 1000).await.unwrap();
    let observer = Node::start(&server).await;
    kept(keep(&node, "c", "before")).await;
    proxy.hold();
    let held = keep(&node, "c", "held");
    assert_eq!(kept(held).await.offset, 2);
    wait_for_new_links(&node, &proxy);
    timeout(PATIENCE, proxy.release()).await.expect("the node has left its old connections");
    kept(keep(&observer, "c", "after")).await;
    assert_eq!(history(&observer, "c").await.1, ["before", "held", "after"]);
    assert!(node.metrics.publishes_repeated.get() > 0, "it was repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_kill_the_lost_connection_nothing_is_repeated() {
    let server = RedisServer::start();
    set_user(&server, &format!("{ALL} -client|kill"));
    let proxy = Proxy::start(&server.socket());
    let url = proxy.url().replace("://", "://ann:pass@");
    let node = Node::start_with(Settings::new(url.parse().unwrap()), 1000).await.unwrap();
    let observer = Node::start(&server).await;
    kept(keep(&node, "c", "before")).await;
    proxy.hold();
    let held = keep(&node, "c", "held");
    assert_eq!(ended(held).await, Err(PublishError::Unknown));
    wait_for_new_links(&node, &proxy);
    timeout(PATIENCE, proxy.release()).await.expect("the node has left its old connections");
    kept(keep(&observer, "c", "after")).await;
    assert_eq!(history(&observer, "c").await.1, ["before", "held", "after"]);
}

/// One process, primary, then replica of one that was behind it, then primary again: it is not the
/// server that it was, though no link is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_reigns_of_one_process_are_two_branches() {
    let port = free_port().to_string();
    let fast = ["--repl-diskless-sync-delay", "0"];
    let port_of_other = free_port().to_string();
    let server = &mut RedisServer::start_with(&[&fast[..], &["--port", &port]].concat());
    let arguments = ["--port", &port_of_other, "--replicaof", "127.0.0.1", &port];
    let other = RedisServer::start_with(&[&fast[..], &arguments].concat());
    let in_step = |server: &RedisServer| {
        server.run_command::<String>(&[b"INFO", b"replication"]).contains("master_link_status:up")
    };
    let follow = |server: &RedisServer, host: &str, port: &str| {
        let _: String = server.run_command(&[b"REPLICAOF", host.as_bytes(), port.as_bytes()]);
    };
    let node = Node::start(server).await;
    let fall_behind = |_: &mut RedisServer| {
        // What was written last comes last.
        let stream = Keys::new("dunlin:").stream(&name("written")).concat();
        let length = || -> u32 { other.run_command(&[b"XLEN", &stream]) };
        wait_until("it has all", || length() == 3);
        follow(&other, "NO", "ONE");
    };
    check_loss(&node, server, fall_behind, |server| {
        follow(server, "127.0.0.1", &port_of_other);
        wait_until("it follows, and that is noticed", || {
            in_step(server) && node.status() == Status::Lost
        });
        follow(server, "NO", "ONE");
    })
    .await;
}
