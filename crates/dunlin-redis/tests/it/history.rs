//! What is kept stays: over restarts of nodes and servers, lost answers, forgotten scripts and
//! forgotten data.

use std::{fs, sync::Arc, time::Duration};

use dunlin_core::{
    broker::{Broker, HistoryQuery, PageBounds, Publish, Recovery, ReplyTo, Since, Terms},
    error::PublishError,
    namespace::Retention,
    position::Position,
    publication::{Kind, Publication},
};
use dunlin_redis::{broker::Settings, keys::Keys, queue::QueueBounds};
use rustix::process::Signal;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    node::{Node, Outcome, Status, ended, name},
    proxy::Proxy,
    server::{RedisServer, free_port, wait_until},
};

pub(crate) const RETENTION: Retention =
    Retention { size: 100_000, ttl: Duration::from_secs(600), meta_ttl: Duration::from_secs(6000) };

/// With its data as safe as Redis can make it.
fn durable_server() -> RedisServer {
    RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
}

fn publish(node: &Node, publish: Publish) -> Outcome {
    let (reply, outcome) = oneshot::channel();
    node.broker.publish(&mut vec![(publish, ReplyTo::Caller(reply))]);
    outcome
}

fn publication(channel: &str, text: &str) -> Publication {
    Publication::new(name(channel), Kind::Text, text.to_owned().into())
}

pub(crate) fn keep(node: &Node, channel: &str, text: &str) -> Outcome {
    let publication = publication(channel, text);
    publish(node, Publish { publication, retention: Some(RETENTION), terms: None })
}

pub(crate) async fn kept(outcome: Outcome) -> Position {
    ended(outcome).await.expect("it happens").expect("it has a position")
}

/// The channel's position and all that is kept, which has no gap.
pub(crate) async fn history(node: &Node, channel: &str) -> (Position, Vec<String>) {
    let (mut since, mut all) = (None, Vec::new());
    loop {
        let query = HistoryQuery { since, limit: usize::MAX, is_reverse: false };
        let page = node.broker.history(&name(channel), query, RETENTION).await.unwrap();
        all.extend(page.publications);
        let end = all.last().and_then(|last| last.position()).map_or(0, |end| end.offset);
        if all.is_empty() || end >= page.top.offset {
            let offsets = all.iter().map(|it| it.position().unwrap().offset);
            assert!(offsets.eq(1..=page.top.offset), "no gap, and nothing twice");
            return (page.top, texts(&all));
        }
        since = Some(Since { offset: end, epoch: None });
    }
}

/// Whoever may ask for channels must not fill the memory with names.
#[tokio::test]
async fn asking_for_a_channel_writes_no_key() {
    let server = RedisServer::start();
    let (node, other) = (Node::start(&server).await, Node::start(&server).await);
    let (before, _) = history(&node, "asked").await;
    for number in 0..2000 {
        history(&node, &format!("asked-{number}")).await;
    }
    let keys: usize = server.run_command(&[b"DBSIZE"]);
    // And those that the probes of two nodes write.
    assert!(keys <= 256 + 4, "{keys} keys, and not one of each partition");
    assert_eq!(history(&other, "asked").await.0, before, "all nodes say the same");
    assert_eq!(recover(&other, "asked", before).await, Some(vec![]));
    let first = kept(keep(&node, "asked", "a")).await;
    assert_eq!((first.offset, first.epoch), (1, before.epoch));
    assert_eq!(recover(&other, "asked", before).await, Some(vec!["a".to_owned()]));
}

/// The epoch of a channel that nothing is published to changes when half of the time has passed for
/// which positions are kept: who was told the last one missed nothing.
#[tokio::test]
async fn who_waits_for_a_first_publication_gets_it_though_the_epoch_has_changed() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    let short = Retention { meta_ttl: Duration::from_secs(10), ..RETENTION };
    let top = async || {
        let channels = [(name("quiet"), short)];
        node.broker.positions(&channels).await[0].unwrap()
    };
    let recover = async |since| {
        let bounds = PageBounds::new(usize::MAX, usize::MAX);
        node.broker.recover(&name("quiet"), since, bounds, short).await.unwrap()
    };
    let first = top().await;
    let mut next = first;
    while next == first {
        // Time has to pass, and nobody tells when.
        sleep(Duration::from_millis(5)).await;
        next = top().await;
    }
    assert_eq!((next.offset, next.epoch.branch), (0, first.epoch.branch));
    assert!(matches!(recover(first).await, Recovery::Page { top, .. } if top == next));
    let publication = publication("quiet", "a");
    let publish_it = Publish { publication, retention: Some(short), terms: None };
    let kept_at = kept(publish(&node, publish_it)).await;
    assert_eq!(kept_at, Position { offset: 1, ..next });
    for since in [first, next] {
        let Recovery::Page { publications, .. } = recover(since).await else { panic!("lost") };
        assert_eq!(texts(&publications), ["a"]);
    }
}

/// What was missed; none if all is lost.
async fn recover(node: &Node, channel: &str, since: Position) -> Option<Vec<String>> {
    let bounds = PageBounds::new(usize::MAX, usize::MAX);
    match node.broker.recover(&name(channel), since, bounds, RETENTION).await.unwrap() {
        Recovery::Page { publications, .. } => Some(texts(&publications)),
        Recovery::Lost { .. } => None,
    }
}

fn texts(publications: &[Arc<Publication>]) -> Vec<String> {
    let text = |it: &Arc<Publication>| String::from_utf8(it.data().to_vec()).unwrap();
    publications.iter().map(text).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_outlives_nodes_and_servers() {
    let mut server = durable_server();
    let node = Node::start(&server).await;
    let first = kept(keep(&node, "c", "0")).await;
    let second = kept(keep(&node, "c", "1")).await;
    node.broker.shutdown().await;

    let node = Node::start(&server).await;
    assert_eq!(history(&node, "c").await, (second, numbers(2)));
    assert_eq!(recover(&node, "c", first).await, Some(vec!["1".to_owned()]));
    tokio::task::block_in_place(|| {
        server.crash();
        server.run();
    });
    node.wait_for(Status::Ready);
    // The server that writes is another one, and has all that the first told anyone.
    assert_eq!(recover(&node, "c", first).await, Some(vec!["1".to_owned()]));
    assert_eq!(recover(&node, "c", second).await, Some(vec![]));
    let third = kept(keep(&node, "c", "2")).await;
    assert_eq!((third.offset, third.epoch.id), (3, first.epoch.id));
    assert_eq!(third.epoch.generation(), first.epoch.generation() + 1);
    assert_eq!(recover(&node, "c", first).await, Some(vec!["1".to_owned(), "2".to_owned()]));
}

/// Publishes numbers, one every millisecond, until told to stop.
async fn keep_numbers(node: Arc<Node>, mut stop: oneshot::Receiver<()>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while stop.try_recv().is_err() {
        outcomes.push(keep(&node, "numbers", &outcomes.len().to_string()));
        // The pace of the load.
        sleep(Duration::from_millis(1)).await;
    }
    outcomes
}

/// What is answered is kept, at that place and nowhere else; what is not is kept once at most.
async fn check_numbers(node: &Node, outcomes: Vec<Outcome>) -> usize {
    let (top, kept) = history(node, "numbers").await;
    let mut accepted = 0;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let text = number.to_string();
        match ended(outcome).await {
            Ok(position) => {
                let position = position.expect("it has a position");
                assert_eq!(kept.get(position.offset as usize - 1), Some(&text), "at its place");
                assert_eq!(position.epoch.id, top.epoch.id);
                accepted += 1;
            }
            Err(PublishError::Unknown) => {}
            Err(error) => assert!(!kept.contains(&text), "{number} is kept: {error}"),
        }
    }
    let sequence: Vec<usize> = kept.iter().map(|text| text.parse().unwrap()).collect();
    assert!(sequence.is_sorted_by(|left, right| left < right), "in order, and nothing twice");
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_under_load_lose_nothing_and_repeat_nothing() {
    let mut server = durable_server();
    let node = Arc::new(Node::start(&server).await);
    node.join("numbers").await;
    let (stop, stopped) = oneshot::channel();
    let publishing = tokio::spawn(keep_numbers(Arc::clone(&node), stopped));
    for _ in 0..3 {
        let before = node.metrics.publishes_accepted.get();
        let is_flowing = || node.metrics.publishes_accepted.get() > before + 100;
        tokio::task::block_in_place(|| {
            wait_until("publishes flow", is_flowing);
            server.crash();
        });
        node.wait_for(Status::Lost);
        tokio::task::block_in_place(|| server.run());
    }
    node.wait_for(Status::Ready);
    stop.send(()).unwrap();
    let outcomes = publishing.await.unwrap();
    let published = outcomes.len();
    assert_eq!(ended(keep(&node, "end", "")).await.map(|it| it.is_some()), Ok(true));
    let accepted = check_numbers(&node, outcomes).await;
    assert_eq!(accepted, published, "Redis could be asked of each");
    let top = history(&node, "numbers").await.0;
    assert_eq!(top.epoch.generation(), 4, "four servers wrote");
}

/// On one thread, so that the link finds them all at once.
#[tokio::test]
async fn publishes_that_come_together_cost_few_calls() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    node.join("c").await;
    // Greetings try a script, too.
    let _: () = server.run_command(&[b"CONFIG", b"RESETSTAT"]);
    let outcomes: Vec<_> = numbers(320).iter().map(|text| keep(&node, "c", text)).collect();
    for (outcome, offset) in outcomes.into_iter().zip(1..) {
        assert_eq!(kept(outcome).await.offset, offset);
    }
    assert!(node.receive_texts(320).await.iter().eq(&numbers(320)));
    assert_eq!(history(&node, "c").await.1, numbers(320));
    let stats: String = server.run_command(&[b"INFO", b"commandstats"]);
    let calls = |command: &str| -> usize {
        let start = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    };
    // Probes and questions are among them.
    let scripts = calls("eval") + calls("evalsha");
    assert_eq!(calls("xadd"), 320);
    assert!((1..=320 / 10).contains(&scripts), "{scripts} scripts for 320 publishes");
}

/// Redis does all and the node hears of nothing: the worst time to lose a link.
/// On one thread, so that the link finds all of a round at once.
#[tokio::test]
async fn publishes_whose_answers_are_lost_appear_once() {
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let settings = Settings::new(proxy.url().parse().unwrap());
    let node = Node::start_with(settings, 1000).await.unwrap();
    let observer = Node::start(&server).await;
    observer.join("c").await;
    let once = |node: &Node, text: &str| {
        let terms = Terms { idempotency_key: text.to_owned(), ..Terms::default() };
        let publication = publication("c", text);
        publish(node, Publish { publication, retention: None, terms: Some(Box::new(terms)) })
    };
    for round in 0..3 {
        proxy.lose_answers();
        let channel = format!("c{round}");
        let first: Vec<_> = numbers(100).iter().map(|text| keep(&node, &channel, text)).collect();
        let repeatable = once(&node, &format!("once {round}"));
        let plain = publish(&node, publication("c", &format!("plain {round}")).into());
        assert_eq!(
            observer.receive_texts(2).await,
            [format!("once {round}"), format!("plain {round}")]
        );
        // The next ones do not even come through.
        proxy.lose_commands();
        let lost = keep(&node, &channel, "100");
        tokio::task::yield_now().await;
        proxy.cut();
        let mut positions = Vec::new();
        for outcome in first.into_iter().chain([lost]) {
            positions.push(kept(outcome).await);
        }
        assert!(positions.iter().map(|position| position.offset).eq(1..=101));
        assert_eq!(ended(plain).await, Err(PublishError::Unknown), "nobody can tell");
        assert_eq!(ended(repeatable).await, Ok(None));
        assert_eq!(history(&observer, &channel).await, (positions[100], numbers(101)));
    }
    assert!(node.metrics.publishes_repeated.get() >= 300);
    let last = kept(keep(&observer, "c", "last")).await;
    assert_eq!((last.offset, observer.receive_texts(1).await), (1, vec!["last".into()]));
}

/// What was trimmed since may have happened: nobody can tell, and nobody guesses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_no_longer_be_told_is_unknown() {
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let settings = Settings::new(proxy.url().parse().unwrap());
    let node = Node::start_with(settings, 1000).await.unwrap();
    let other = Node::start(&server).await;
    other.join("c").await;
    let small = Retention { size: 2, ..RETENTION };
    let keep_few = |node: &Node, text: &str| {
        let publication = publication("c", text);
        publish(node, Publish { publication, retention: Some(small), terms: None })
    };
    proxy.lose_answers();
    let trimmed = keep_few(&node, "trimmed");
    assert_eq!(other.receive_texts(1).await, ["trimmed"]);
    for text in ["a", "b"] {
        kept(keep_few(&other, text)).await;
    }
    proxy.cut();
    assert_eq!(ended(trimmed).await, Err(PublishError::Unknown));
    assert_eq!(other.receive_texts(2).await, ["a", "b"]);
    assert_eq!(kept(keep_few(&node, "next")).await.offset, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_does_once_what_it_was_sent() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    let before = kept(keep(&node, "c", "0")).await;
    server.signal(Signal::STOP);
    let frozen: Vec<_> = ["1", "2"].into_iter().map(|text| keep(&node, "c", text)).collect();
    node.wait_for(Status::Lost);
    server.signal(Signal::CONT);
    for (outcome, offset) in frozen.into_iter().zip(2..) {
        assert_eq!(kept(outcome).await, Position { offset, ..before });
    }
    assert_eq!(history(&node, "c").await.1, numbers(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_away_leaves_publishes_unknown_after_a_while() {
    let mut server = RedisServer::start();
    let proxy = Proxy::start(&server.socket());
    let queue = QueueBounds { age: Duration::from_secs(1), ..QueueBounds::default() };
    let settings = Settings { queue, ..Settings::new(proxy.url().parse().unwrap()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    // Nothing is sent before the answer to the first probe, which may still be on its way.
    kept(keep(&node, "c", "before")).await;
    proxy.lose_answers();
    let sent = keep(&node, "c", "sent");
    let stream = Keys::new("dunlin:").stream(&name("c")).concat();
    tokio::task::block_in_place(|| {
        wait_until("it has come", || server.run_command::<u32>(&[b"XLEN", &stream]) == 2);
        server.crash();
    });
    // Only then the publish link is sure to know: another link may notice before.
    assert_eq!(ended(sent).await, Err(PublishError::Unknown));
    let waiting = keep(&node, "c", "waiting");
    assert_eq!(ended(waiting).await, Err(PublishError::Refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_its_scripts_is_taught_again() {
    let server = RedisServer::start();
    let node = Arc::new(Node::start(&server).await);
    let (stop, stopped) = oneshot::channel();
    let publishing = tokio::spawn(keep_numbers(Arc::clone(&node), stopped));
    for _ in 0..5 {
        let before = node.metrics.publishes_accepted.get();
        tokio::task::block_in_place(|| {
            wait_until("publishes flow", || node.metrics.publishes_accepted.get() > before + 20);
            let _: String = server.run_command(&[b"SCRIPT", b"FLUSH"]);
        });
        history(&node, "numbers").await;
    }
    stop.send(()).unwrap();
    let outcomes = publishing.await.unwrap();
    let published = outcomes.len();
    assert_eq!(ended(keep(&node, "end", "")).await.map(|it| it.is_some()), Ok(true));
    assert_eq!(check_numbers(&node, outcomes).await, published);
    assert_eq!(node.status(), Status::Ready, "no link was lost for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_its_data_starts_another_epoch() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    let first = kept(keep(&node, "c", "0")).await;
    let _: String = server.run_command(&[b"FLUSHALL"]);
    assert_eq!(recover(&node, "c", first).await, None);
    let (top, kept_texts) = history(&node, "c").await;
    assert_ne!(top.epoch.id, first.epoch.id);
    assert_eq!((top.offset, kept_texts.len()), (0, 0));
    assert_eq!(kept(keep(&node, "c", "0")).await, Position { offset: 1, ..top });
    // A stream without its position is of a past that nobody knows.
    let _: u32 = server.run_command(&[b"DEL", &Keys::new("dunlin:").meta(&name("c")).concat()]);
    assert_eq!(history(&node, "c").await.1, numbers(0));
    let anew = kept(keep(&node, "c", "0")).await;
    assert_eq!(anew.offset, 1);
    assert_ne!(anew.epoch.id, top.epoch.id, "an epoch never comes twice");
    assert_eq!(history(&node, "c").await.1, numbers(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_takes_nothing_and_tells_what_it_has() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    let first = kept(keep(&node, "c", "0")).await;
    let _: String = server.run_command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    assert_eq!(ended(keep(&node, "c", "1")).await, Err(PublishError::Rejected));
    assert_eq!(history(&node, "c").await, (first, numbers(1)));
    assert_eq!(recover(&node, "c", first).await, Some(vec![]));
    let _: String = server.run_command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    assert_eq!(kept(keep(&node, "c", "1")).await, Position { offset: 2, ..first });
}

/// A server comes back without the last of what it told subscribers: its offsets come again, and
/// mean something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_lost_is_not_taken_for_what_came_after_it() {
    let server = &mut RedisServer::start();
    let node = Node::start(server).await;
    check_loss(&node, server, save, |server| {
        server.crash();
        server.run();
    })
    .await;
}

fn save(server: &mut RedisServer) {
    let _: String = server.run_command(&[b"SAVE"]);
}

/// The same with a replica that takes the place of a master it was behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_never_got_is_not_taken_for_what_came_after_it() {
    let port = free_port().to_string();
    let master =
        &mut RedisServer::start_with(&["--port", &port, "--repl-diskless-sync-delay", "0"]);
    let replica = RedisServer::start_with(&["--replicaof", &format!("127.0.0.1 {port}")]);
    let node = Node::start(master).await;
    let fall_behind = |_: &mut RedisServer| {
        // What was written last comes last.
        let stream = Keys::new("dunlin:").stream(&name("written")).concat();
        let length = || -> u32 { replica.run_command(&[b"XLEN", &stream]) };
        wait_until("the replica has all", || length() == 3);
        // A master that is nowhere.
        let _: String = replica.run_command(&[b"REPLICAOF", b"127.0.0.1", b"1"]);
    };
    check_loss(&node, master, fall_behind, |master| {
        master.crash();
        let _: String = replica.run_command(&[b"REPLICAOF", b"NO", b"ONE"]);
        fs::rename(replica.socket(), master.socket()).unwrap();
    })
    .await;
}

pub(crate) async fn check_loss(
    node: &Node,
    server: &mut RedisServer,
    fall_behind: impl FnOnce(&mut RedisServer),
    replace: impl FnOnce(&mut RedisServer),
) {
    for number in 0..3 {
        kept(keep(node, "read", &number.to_string())).await;
        kept(keep(node, "written", &number.to_string())).await;
    }
    tokio::task::block_in_place(|| fall_behind(server));
    let mut lost = Vec::new();
    // That of a node that is no more does not come back.
    let gone = Node::start(server).await;
    for channel in ["read", "written"] {
        kept(keep(&gone, channel, "lost")).await;
        lost.push(kept(keep(&gone, channel, "lost")).await);
    }
    gone.broker.shutdown().await;
    tokio::task::block_in_place(|| replace(server));
    node.wait_for(Status::Lost);
    node.wait_for(Status::Ready);

    // Who asks before anyone writes is told as well.
    assert_eq!(recover(node, "read", lost[0]).await, None);
    assert_eq!(history(node, "read").await.0.offset, 3);
    for channel in ["read", "written"] {
        for (text, offset) in [("3", 4), ("4", 5), ("5", 6)] {
            assert_eq!(kept(keep(node, channel, text)).await.offset, offset);
        }
    }
    let after = || ["3", "4", "5"].map(str::to_owned).to_vec();
    for (channel, lost) in ["read", "written"].into_iter().zip(lost) {
        assert_eq!(recover(node, channel, lost).await, None, "it had what is no more");
        let last_common = Position { offset: 3, ..lost };
        assert_eq!(recover(node, channel, last_common).await, Some(after()));
        let known = Position { offset: 2, ..lost };
        let missed = [vec!["2".to_owned()], after()].concat();
        assert_eq!(recover(node, channel, known).await, Some(missed));
    }
}
