//! Redis dies, freezes, pauses, cuts links and denies: what the broker promises then.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dunlin_core::{
    broker::{Broker, ReplyTo},
    error::{BrokerLost, PublishError},
    interest::Wish,
    publication::{Kind, Publication},
};
use dunlin_redis::{broker::Settings, queue::QueueBounds};
use rustix::process::Signal;
use tokio::{sync::oneshot, time::sleep};

use crate::{
    node::{Node, Outcome, Status, ended, name},
    server::{RedisServer, wait_until},
};

fn unless_blocked(what: &str, is_so: impl FnMut() -> bool) {
    tokio::task::block_in_place(|| wait_until(what, is_so));
}

/// Publishes numbers, one every millisecond, until told to stop.
async fn publish_numbers(node: Arc<Node>, mut stop: oneshot::Receiver<()>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while stop.try_recv().is_err() {
        let text = outcomes.len().to_string();
        outcomes.push(node.publish("numbers", Kind::Text, text.as_bytes()));
        // The pace of the load.
        sleep(Duration::from_millis(1)).await;
    }
    outcomes
}

/// No publish is dropped in silence: accepted ones arrive once and in order, refused ones never,
/// and of the unknown ones each at most once.
async fn check_numbers(
    outcomes: Vec<Outcome>,
    received: &[Bytes],
    ending: Ending,
) -> BTreeMap<String, usize> {
    // A server that is killed may have answered a publisher and not yet written to subscribers.
    let mut may_be_missing = if ending == Ending::Crash { 3 } else { 0 };
    let mut summary = BTreeMap::new();
    let mut expected = received.iter().peekable();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let outcome = ended(outcome).await;
        let text = Bytes::from(number.to_string());
        let arrived = expected.next_if(|received| **received == text).is_some();
        match outcome {
            Ok(_) if !arrived && may_be_missing > 0 => may_be_missing -= 1,
            Ok(_) => assert!(arrived, "{number} was accepted and did not arrive"),
            Err(PublishError::Unknown) => {}
            Err(error) => assert!(!arrived, "{number} arrived: {error}"),
        }
        *summary.entry(format!("{outcome:?}")).or_default() += 1;
    }
    assert_eq!(expected.next(), None, "nothing comes twice or out of order");
    summary
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    Stop,
    Crash,
}

async fn check_restart(ending: Ending, down: Duration) {
    let mut server = RedisServer::start();
    let publisher = Arc::new(Node::start(&server).await);
    let listener = Node::start(&server).await;
    publisher.join("numbers").await;
    listener.join("numbers").await;
    let (stop, stopped) = oneshot::channel();
    let publishing = tokio::spawn(publish_numbers(Arc::clone(&publisher), stopped));
    // How long the load runs before the end of Redis.
    sleep(Duration::from_millis(200)).await;
    tokio::task::block_in_place(|| match ending {
        Ending::Stop => server.stop(),
        Ending::Crash => server.crash(),
    });
    publisher.wait_for(Status::Lost);
    // How long Redis is away.
    sleep(down).await;
    tokio::task::block_in_place(|| server.run());
    let back = Instant::now();
    let before = publisher.metrics.publishes_accepted.get();
    unless_blocked("publishes flow", || publisher.metrics.publishes_accepted.get() > before);
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    // How long the load runs after the return.
    sleep(Duration::from_millis(200)).await;
    stop.send(()).unwrap();
    let outcomes = publishing.await.unwrap();
    publisher.say("numbers", "end").await;

    let (own, other) = (receive_until_end(&publisher).await, receive_until_end(&listener).await);
    assert!(ending == Ending::Crash || own == other, "both nodes get the same");
    let summary = check_numbers(outcomes, &own, ending).await;
    assert!(summary["Ok(None)"] > 150, "{summary:?}");
    assert_eq!(publisher.metrics.publishes_refused.get(), 0, "they could all wait: {summary:?}");
}

async fn receive_until_end(node: &Node) -> Vec<Bytes> {
    let mut received = Vec::new();
    while received.last() != Some(&Bytes::from("end")) {
        node.inbox.filled().await;
        received.extend(node.take_texts());
    }
    received.pop();
    received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_nothing_in_silence() {
    check_restart(Ending::Stop, Duration::ZERO).await;
    check_restart(Ending::Stop, Duration::from_millis(700)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_under_load_loses_at_most_what_was_in_its_hands() {
    check_restart(Ending::Crash, Duration::from_millis(100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_links_are_made_again() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    node.join("a").await;
    node.join("b").await;
    for kind in ["pubsub", "normal"] {
        let _: u32 = server.run_command(&[b"CLIENT", b"KILL", b"TYPE", kind.as_bytes()]);
        node.wait_for(Status::Lost);
        node.wait_for(Status::Ready);
        for channel in ["a", "b", "c"] {
            node.join(channel).await;
            node.say(channel, channel).await;
        }
        assert_eq!(node.receive_texts(3).await, ["a", "b", "c"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_subscription_is_told_of_the_loss() {
    let mut server = RedisServer::start();
    let node = Node::start(&server).await;
    server.signal(Signal::STOP);
    let Wish::Pending(answer) = node.wish("chat") else { panic!("granted by a frozen server") };
    // Time for the command to be on its way; a frozen server tells nobody that it has come.
    sleep(Duration::from_millis(100)).await;
    tokio::task::block_in_place(|| server.crash());
    assert_eq!(answer.granted().await, Err(BrokerLost));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_fills_the_queue_to_its_bounds_and_not_beyond() {
    let mut server = RedisServer::start();
    let queue = QueueBounds { publishes: 50, bytes: 1 << 20, age: Duration::from_millis(500) };
    let settings = Settings { queue, ..Settings::new(server.url()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    tokio::task::block_in_place(|| server.crash());
    node.wait_for(Status::Lost);
    // Both links must have noticed, else publishes are still written to a dead socket.
    sleep(Duration::from_millis(100)).await;

    let start = Instant::now();
    let mut waiting: Vec<_> = (0..60).map(|_| node.publish("c", Kind::Text, b"x")).collect();
    for beyond in waiting.split_off(50) {
        assert_eq!(ended(beyond).await, Err(PublishError::Refused));
    }
    assert!(start.elapsed() < Duration::from_millis(400), "refused at once");
    for expired in waiting {
        assert_eq!(ended(expired).await, Err(PublishError::Refused));
    }
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(500) && waited < Duration::from_secs(2), "{waited:?}");
    assert_eq!(node.metrics.publishes_refused.get(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_makes_publishers_wait() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    node.join("chat").await;
    let _: String = server.run_command(&[b"CLIENT", b"PAUSE", b"1000", b"WRITE"]);
    let mut outcomes = Vec::new();
    let room = loop {
        let text = outcomes.len().to_string();
        let (outcome, room) = node.publish_and_room("chat", Kind::Text, text.as_bytes());
        outcomes.push(outcome);
        if let Some(room) = room {
            break room;
        }
        assert!(outcomes.len() <= 10_000, "a publisher is never made to wait");
        tokio::task::yield_now().await;
    };
    room.await;
    let count = outcomes.len();
    let received = node.receive_texts(count).await;
    assert!(received.into_iter().eq((0..count).map(|number| number.to_string())));
    for outcome in outcomes {
        assert_eq!(ended(outcome).await, Ok(None));
    }
}

/// What was written to a frozen server is unknown when its time is over, and not repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_counts_as_lost_within_three_seconds() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    node.join("chat").await;
    node.say("chat", "before").await;
    assert_eq!(node.receive_texts(1).await, ["before"]);
    server.signal(Signal::STOP);
    let start = Instant::now();
    let unknown = node.publish("chat", Kind::Text, b"unknown");
    node.wait_for(Status::Lost);
    let noticed = start.elapsed();
    assert!(noticed > Duration::from_secs(1) && noticed < Duration::from_secs(3), "{noticed:?}");
    assert_eq!(ended(unknown).await, Err(PublishError::Unknown));
    let answered = start.elapsed();
    assert!(answered > Duration::from_secs(4) && answered < Duration::from_secs(6), "{answered:?}");
    server.signal(Signal::CONT);
    node.wait_for(Status::Ready);
    node.say("chat", "after").await;
    // The frozen server reads what the dead link had sent, so it happened: once, and heard or not.
    let mut texts = Vec::new();
    while texts.last() != Some(&Bytes::from("after")) {
        node.inbox.filled().await;
        texts.extend(node.take_texts());
    }
    assert!(texts == ["after"] || texts == ["unknown", "after"], "{texts:?}");
}

/// A node that does not take what arrives stops reading; Redis keeps the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_is_bounded_and_loses_nothing_while_redis_bears_it() {
    const COUNT: usize = 20_000;
    let server = RedisServer::start();
    let node = Node::start_with(Settings::new(server.url()), 10).await.unwrap();
    node.join("flood").await;
    let mut connection = server.client().get_connection().unwrap();
    let mut pipeline = redis::pipe();
    for number in 0..COUNT {
        pipeline.cmd("PUBLISH").arg("dunlin:flood").arg(format!("{number:01000}")).ignore();
    }
    pipeline.exec(&mut connection).unwrap();
    let mut seen = 0;
    let mut largest_turn = 0;
    // Longer than the silence that would count as death, if the node were listening.
    sleep(Duration::from_millis(3500)).await;
    assert_eq!(node.status(), Status::Ready);
    while seen < COUNT {
        node.inbox.filled().await;
        let turn = node.take();
        largest_turn = largest_turn.max(turn.len());
        for publication in turn {
            assert_eq!(publication.data(), format!("{seen:01000}").as_bytes());
            seen += 1;
        }
    }
    assert!(largest_turn < 500, "{largest_turn} publications waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_redis_denies_hurts_no_other() {
    let server = RedisServer::start();
    let rules = [
        &b"ACL"[..],
        b"SETUSER",
        b"ann",
        b"on",
        b">pass",
        b"+@all",
        b"~*",
        b"&dunlin:ok*",
        b"&*probe*",
    ];
    let _: String = server.run_command(&rules);
    let url = format!("redis+unix://ann:pass@{}", server.socket().display());
    let node = Node::start_with(Settings::new(url.parse().unwrap()), 1000).await.unwrap();
    let Wish::Pending(denied) = node.wish("denied") else { panic!("granted before asking") };
    let start = Instant::now();
    assert_eq!(denied.granted().await, Err(BrokerLost));
    assert!(start.elapsed() < Duration::from_secs(1), "told at once");
    for number in 0..20 {
        node.join(&format!("ok{number}")).await;
    }
    node.say("ok7", "hi").await;
    assert_eq!(node.receive_texts(1).await, ["hi"]);
    let rejected = node.publish("denied", Kind::Text, b"hi");
    assert_eq!(ended(rejected).await, Err(PublishError::Rejected));
    assert_eq!(node.metrics.subscribes_refused.get(), 1);
    assert_eq!(node.status(), Status::Ready);

    let _: String = server.run_command(&[b"ACL", b"SETUSER", b"ann", b"&dunlin:denied"]);
    node.join("denied").await;
    node.say("denied", "allowed").await;
    assert_eq!(node.receive_texts(1).await, ["allowed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wished_of_a_busy_server_stands_when_it_is_free() {
    let server = RedisServer::start_with(&["--busy-reply-threshold", "50"]);
    let node = Node::start(&server).await;
    let client = server.client();
    let script = std::thread::spawn(move || {
        let mut connection = client.get_connection().unwrap();
        redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut connection)
    });
    let mut connection = server.client().get_connection().unwrap();
    unless_blocked("the script runs", || redis::cmd("PING").exec(&mut connection).is_err());
    let Wish::Pending(answer) = node.wish("chat") else { panic!("granted before asking") };
    assert_eq!(answer.granted().await, Err(BrokerLost));
    node.wait_for(Status::Lost);
    redis::cmd("SCRIPT").arg("KILL").exec(&mut connection).unwrap();
    assert!(script.join().unwrap().is_err(), "killed");
    node.wait_for(Status::Ready);
    node.say("chat", "hi").await;
    assert_eq!(node.receive_texts(1).await, ["hi"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_sends_what_was_published_and_answers_everyone() {
    let server = RedisServer::start();
    let (leaving, staying) = (Node::start(&server).await, Node::start(&server).await);
    staying.join("chat").await;
    let outcomes: Vec<_> = (0..1000)
        .map(|number: usize| leaving.publish("chat", Kind::Text, number.to_string().as_bytes()))
        .collect();
    let mut died = pin!(leaving.broker.died());
    tokio::select! {
        biased;
        () = &mut died => panic!("nothing has happened"),
        () = leaving.broker.shutdown() => {}
    }
    assert!(poll_fn(|cx| Poll::Ready(died.as_mut().poll(cx))).await.is_pending(), "told to end");
    for outcome in outcomes {
        assert_eq!(ended(outcome).await, Ok(None));
    }
    assert_eq!(staying.receive(1000).await.len(), 1000);
    let late = leaving.publish("chat", Kind::Text, b"late");
    assert_eq!(ended(late).await, Err(PublishError::Refused));
    assert_eq!(leaving.status(), Status::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_broker_ends_its_links() {
    let server = RedisServer::start();
    let node = Node::start(&server).await;
    let (reply, outcome) = oneshot::channel();
    let publication = Publication::new(name("c"), Kind::Text, Bytes::new());
    node.broker.publish(&mut vec![(publication.into(), ReplyTo::Caller(reply))]);
    drop(node.broker);
    assert!(ended(outcome).await.is_ok());
    unless_blocked("redis has lost both links", || {
        let clients: String = server.run_command(&[b"CLIENT", b"LIST"]);
        !clients.contains("name=dunlin")
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_is_ready_again_though_dials_beside_it_failed() {
    let server = RedisServer::start();
    let connect_timeout = Duration::from_millis(200);
    let settings = Settings { connect_timeout, ..Settings::new(server.url()) };
    let node = Node::start_with(settings, 1000).await.unwrap();
    node.join("chat").await;
    server.signal(Signal::STOP);
    node.wait_for(Status::Lost);
    unless_blocked("a dial has failed", || {
        let outages = node.broker.outages(None);
        outages.iter().any(|outage| outage.reason.contains("did not answer within"))
    });
    server.signal(Signal::CONT);
    node.wait_for(Status::Ready);
    node.say("chat", "after").await;
    assert_eq!(node.receive_texts(1).await, ["after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_come_back_make_it_ready_again() {
    let server = RedisServer::start();
    let all = [&b"ACL"[..], b"SETUSER", b"ann", b"on", b">pass", b"+@all", b"~*", b"allchannels"];
    let _: String = server.run_command(&all);
    let url = format!("redis+unix://ann:pass@{}", server.socket().display());
    let node = Node::start_with(Settings::new(url.parse().unwrap()), 1000).await.unwrap();
    node.join("chat").await;
    let _: String = server.run_command(&[b"ACL", b"SETUSER", b"ann", b"resetchannels"]);
    node.wait_for(Status::Lost);
    unless_blocked("the reason is told", || {
        node.broker.outages(None).iter().any(|outage| outage.reason.contains("NOPERM"))
    });
    let _: String = server.run_command(&[b"ACL", b"SETUSER", b"ann", b"allchannels"]);
    let back = Instant::now();
    node.wait_for(Status::Ready);
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
}
