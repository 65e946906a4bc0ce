//! Leaving: not ready at once, still open for a while, then closing evenly and ending in time.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::harness::{
    Client, Flock, KEY_SETTING, Message, Node, NodeCommand, PATIENCE, Redis, get, read_response,
    upgrade_request, wait_until,
};

/// What nothing that ends "at once" takes, even on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

#[test]
fn clients_are_closed_evenly_with_1012_after_all_that_was_published() {
    const CLIENTS: usize = 40;
    const DRAIN: Duration = Duration::from_secs(2);
    let settings = ["shutdown.accept_for=2s", "shutdown.drain=2s", "shutdown.timeout=60s"];
    for mut flock in [Flock::memory(&settings), Flock::redis(2, &settings)] {
        let leaving = &flock.nodes[0];
        let mut clients: Vec<_> = (1..CLIENTS).map(|_| leaving.join("leaving")).collect();
        leaving.signal(Signal::TERM);
        wait_until("it is not ready", || leaving.status_of("/ready") == 503);
        assert!(get(leaving.address, "/ready").body.contains("\"leaving\""));
        assert_eq!(leaving.status_of("/health"), 200);
        clients.push(leaving.join("leaving"));
        clients[0].send_text("to the last");

        let readers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                thread::spawn(move || {
                    assert_eq!(client.receive_text(), "to the last");
                    let (code, reason) = client.receive_close();
                    assert_eq!((code, reason.as_str()), (1012, "node is leaving, reconnect"));
                    Instant::now()
                })
            })
            .collect();
        let mut closed: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        closed.sort();
        let took = closed[CLIENTS - 1] - closed[0];
        assert!(took > DRAIN / 2, "closed within {took:?}");
        let at_once = closed.windows(10).filter(|window| window[9] - window[0] < DRAIN / 20);
        assert_eq!(at_once.count(), 0, "closed by the bunch");

        let status = flock.nodes[0].wait_for_end();
        assert_eq!(status.code(), Some(0));
        assert!(flock.nodes[0].log().contains("left in order"), "{}", flock.nodes[0].log());
        for other in &flock.nodes[1..] {
            assert_eq!(other.status_of("/ready"), 200);
        }
    }
}

#[test]
fn what_waits_for_a_client_is_flushed_before_it_is_closed() {
    let settings = ["shutdown.accept_for=0", "shutdown.drain=0", "limits.backlog_bytes=64MiB"];
    let mut node = Node::start(&settings);
    let mut reader = node.join("flushed");
    let mut publisher = node.join("flushed");
    let message = vec![1; 60_000];
    for _ in 0..150 {
        publisher.send_binary(&message);
        assert_eq!(publisher.receive(), Message::Binary(message.clone()));
    }
    wait_until("something waits", || node.metrics().sum("dunlin_backlog_bytes") > 0.0);
    node.signal(Signal::TERM);
    node.wait_for_log("closing connections");
    for _ in 0..150 {
        assert_eq!(reader.receive(), Message::Binary(message.clone()));
    }
    assert_eq!(reader.receive_close().0, 1012);
    drop(reader);
    drop(publisher);
    assert_eq!(node.wait_for_end().code(), Some(0));
}

/// Until a client has heard that the node leaves, what it publishes counts.
#[test]
fn what_a_client_sends_before_it_hears_the_good_bye_is_published() {
    let settings = ["shutdown.accept_for=0", "shutdown.drain=0", "shutdown.timeout=60s"];
    let mut flock = Flock::redis(2, &settings);
    let (mut publisher, mut listener) = (flock.nodes[0].join("last"), flock.nodes[1].join("last"));
    flock.nodes[0].signal(Signal::TERM);
    assert_eq!(publisher.receive_close().0, 1012);
    // As if it had not read that yet.
    publisher.send_text("still counts");
    assert_eq!(listener.receive_text(), "still counts");
    publisher.close();
    assert!(flock.nodes[0].wait_for_end().success());
    listener.close();
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let settings = ["shutdown.accept_for=0", "shutdown.drain=5m", "shutdown.timeout=6m"];
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        for mut flock in [Flock::memory(&settings), Flock::redis(1, &settings)] {
            let _clients = flock.join("c", 10);
            let node = &mut flock.nodes[0];
            node.signal(signals[0]);
            node.wait_for_log("closing connections");
            assert!(!node.has_ended());
            let began_at = Instant::now();
            node.signal(signals[1]);
            assert_eq!(node.wait_for_end().code(), Some(0));
            assert!(began_at.elapsed() < AT_ONCE);
        }
    }
}

#[test]
fn without_clients_there_is_nothing_to_wait_for() {
    let settings = ["shutdown.accept_for=0", "shutdown.drain=5m", "shutdown.timeout=6m"];
    for mut flock in [Flock::memory(&settings), Flock::redis(1, &settings)] {
        let node = &mut flock.nodes[0];
        // Neither one that left before nor one that asks for pages is a client.
        node.join("c").close();
        let mut page = TcpStream::connect(node.address).unwrap();
        page.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        node.wait_until_empty();
        let began_at = Instant::now();
        node.signal(Signal::TERM);
        assert_eq!(node.wait_for_end().code(), Some(0));
        assert!(began_at.elapsed() < AT_ONCE);
    }
}

#[test]
fn clients_that_never_say_goodbye_do_not_hold_it_up() {
    let settings = ["shutdown.accept_for=0", "shutdown.drain=500ms", "shutdown.timeout=1s"];
    let mut node = Node::start(&settings);
    let _deaf: Vec<_> = (0..10).map(|_| node.join("deaf")).collect();
    let began_at = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.wait_for_end().code(), Some(0));
    assert!(began_at.elapsed() < AT_ONCE);
}

#[test]
fn a_sleeping_client_does_not_keep_a_node_from_taking_leave() {
    let settings =
        ["shutdown.accept_for=0", "shutdown.drain=500ms", "shutdown.timeout=3s", KEY_SETTING];
    let mut flock = Flock::redis(2, &settings);
    let nodes = |node: &Node| node.result("info", "{}")["nodes"].as_array().unwrap().len();
    wait_until("both know each other", || nodes(&flock.nodes[1]) == 2);
    let _asleep = flock.nodes[0].join("asleep");
    flock.nodes[0].signal(Signal::TERM);
    assert_eq!(flock.nodes[0].wait_for_end().code(), Some(0));
    assert!(flock.nodes[0].log().contains("left in a hurry"), "{}", flock.nodes[0].log());
    let info = flock.nodes[1].result("info", "{}");
    assert!(info["missing"].is_null() && nodes(&flock.nodes[1]) == 1, "{info}");
}

/// A connection that was accepted before the end of accepting can still ask for an upgrade.
#[test]
fn who_comes_while_connections_are_closed_is_sent_elsewhere() {
    let settings = ["shutdown.accept_for=0", "shutdown.drain=2s", "shutdown.timeout=2m"];
    for mut flock in [Flock::memory(&settings), Flock::redis(1, &settings)] {
        let node = &mut flock.nodes[0];
        let clients: Vec<_> = (0..4).map(|_| node.join("late")).collect();
        let mut late: Vec<_> = (0..4).map(|_| TcpStream::connect(node.address).unwrap()).collect();
        for late in &mut late {
            late.set_read_timeout(Some(PATIENCE)).unwrap();
            late.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            read_response(&mut BufReader::new(&*late)).unwrap();
        }
        let began_at = Instant::now();
        node.signal(Signal::TERM);
        node.wait_for_log("closing connections");
        for late in late {
            match Client::upgrade(late, &upgrade_request("/ws/late")) {
                Ok((mut client, _)) => assert_eq!(client.receive_close().0, 1012),
                Err(Some(refusal)) => {
                    assert_eq!(refusal.status, 503);
                    assert!(refusal.header("retry-after").is_some());
                }
                Err(None) => panic!("neither answer nor close frame"),
            }
        }
        for mut client in clients {
            assert_eq!(client.receive_close().0, 1012);
        }
        assert_eq!(node.wait_for_end().code(), Some(0));
        assert!(began_at.elapsed() < Duration::from_secs(60), "it waited for the late ones");
        assert!(node.log().contains("left in order"), "{}", node.log());
    }
}

#[test]
fn a_node_that_still_waits_for_redis_can_be_ended() {
    let mut redis = Redis::start();
    redis.stop();
    let url = format!("redis.url={}", redis.url());
    let mut node = NodeCommand::new().set(&[&url, "redis.wait=5m"]).spawn();
    node.wait_for_log("waiting: redis");
    let began_at = Instant::now();
    node.signal(Signal::TERM);
    node.wait_for_end();
    assert!(began_at.elapsed() < AT_ONCE);
}
