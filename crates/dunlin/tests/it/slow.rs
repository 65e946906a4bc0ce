//! Slow readers: bounded in bytes and age, told why they are closed, and nobody else's trouble.

use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use redis::Commands;

use crate::harness::{Client, Flock, Message, Node, Opcode, PATIENCE, frame, wait_until};

/// Publishes numbered messages of 1 KiB and reads them back, until `is_enough`. Returns how many.
fn publish_until(publisher: &mut Client, mut is_enough: impl FnMut() -> bool) -> usize {
    const WINDOW: usize = 32;
    let mut count = 0;
    while !is_enough() {
        for number in count..count + WINDOW {
            publisher.send_text(&numbered(number));
        }
        for number in count..count + WINDOW {
            assert_eq!(publisher.receive_text(), numbered(number));
        }
        count += WINDOW;
        assert!(count < 200_000, "nobody was slow enough");
    }
    count
}

fn numbered(number: usize) -> String {
    format!("{number:01024}")
}

fn subscriptions(node: &Node) -> usize {
    node.metrics().sum("dunlin_subscriptions") as usize
}

/// Joins `channel` as one that does not read, beside `others` on its node.
fn join_slow(node: &Node, channel: &str, others: usize) -> Client {
    wait_until("the others are counted", || subscriptions(node) == others);
    let slow = Client::join_with_little_room(node.address, channel);
    wait_until("it is counted", || subscriptions(node) == others + 1);
    slow
}

/// Reads `count` numbered messages in a thread.
fn read_all(mut client: Client) -> thread::JoinHandle<Client> {
    thread::spawn(move || {
        let mut number = 0;
        loop {
            match client.receive_text() {
                text if text == "end" => return client,
                text => assert!(text == numbered(number), "{number} is missing"),
            }
            number += 1;
        }
    })
}

/// What a slow reader finds when it reads at last: whole messages without a gap, then why.
fn check_leftovers(mut slow: Client) {
    for number in 0.. {
        match slow.receive() {
            Message::Text(text) => assert!(text == numbered(number), "{number} is missing"),
            Message::Close(code, reason) => {
                assert_eq!((code, reason.as_str()), (1013, "reading too slowly"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(slow.receive(), Message::End);
}

#[test]
fn who_does_not_read_is_closed_at_its_bound_in_bytes_and_others_do_not_notice() {
    Flock::each(&["limits.backlog_bytes=64KiB", "limits.backlog_age=5m"], |flock| {
        let mut publisher = flock.node(0).join("slow");
        let readers: Vec<_> = flock.join("slow", 4).into_iter().map(read_all).collect();
        let node = flock.node(1);
        let others = if flock.nodes.len() == 1 { 5 } else { 2 };
        let slow = join_slow(node, "slow", others);
        let published = publish_until(&mut publisher, || subscriptions(node) == others);
        check_leftovers(slow);
        publisher.send_text("end");
        assert_eq!(publisher.receive_text(), "end");
        readers.into_iter().for_each(|reader| drop(reader.join().unwrap()));
        assert!(published > 64, "64 KiB are allowed");
        wait_until("it is counted", || node.metrics().closed("slow_reader") == 1.0);
    });
}

#[test]
fn who_does_not_read_is_closed_at_its_bound_in_age() {
    Flock::each(&["limits.backlog_bytes=64MiB", "limits.backlog_age=500ms"], |flock| {
        let mut publisher = flock.node(0).join("late");
        let node = flock.node(1);
        let others = if flock.nodes.len() == 1 { 1 } else { 0 };
        let slow = join_slow(node, "late", others);
        let waiting = || node.metrics().sum("dunlin_backlog_bytes");
        publish_until(&mut publisher, || waiting() > 0.0);
        // Nothing more is published: time alone does it.
        wait_until("it is closed", || subscriptions(node) == others);
        check_leftovers(slow);
    });
}

#[test]
fn who_reads_too_slowly_is_closed_though_it_reads() {
    let node = Node::start(&["limits.backlog_bytes=64MiB", "limits.backlog_age=1s"]);
    let mut publisher = node.join("trickle");
    let mut slow = Client::join_with_little_room(node.address, "trickle");
    publish_until(&mut publisher, || node.metrics().sum("dunlin_backlog_bytes") > 1_000_000.0);
    let mut socket = slow.socket().try_clone().unwrap();
    let reader = thread::spawn(move || {
        let mut bytes = [0; 100];
        while matches!(socket.read(&mut bytes), Ok(1..)) {
            // The pace of somebody who reads too slowly.
            thread::sleep(Duration::from_millis(20));
        }
    });
    wait_until("it is gone", || node.metrics().closed("slow_reader") == 1.0);
    // Its socket is closed, with or without the rest.
    reader.join().unwrap();
    assert_eq!(slow.receive(), Message::End);
    publisher.send_text("still here");
    assert_eq!(publisher.receive_text(), "still here");
}

/// Clients cannot send one, by their limits; other programs can.
#[test]
fn a_message_larger_than_the_backlog_passes() {
    let flock = Flock::redis(1, &["limits.backlog_bytes=64KiB"]);
    let mut reader = Client::join_with_little_room(flock.node(0).address, "large");
    let mut program = flock.redis.as_ref().unwrap().connect();
    let large = "large".repeat(1 << 20);
    for _ in 0..2 {
        let _: usize = program.publish("dunlin:large", &large).unwrap();
        assert!(reader.receive_text() == large);
    }
}

#[test]
fn many_slow_readers_cost_bounded_memory_and_are_forgotten() {
    const SLOW: usize = 50;
    Flock::each(&["limits.backlog_bytes=1MiB", "limits.backlog_age=5m"], |flock| {
        let mut publisher = flock.node(0).join("many");
        let readers: Vec<_> = flock.join("many", 2).into_iter().map(read_all).collect();
        let node = flock.node(1);
        let others = if flock.nodes.len() == 1 { 3 } else { 1 };
        let slow: Vec<_> = (0..SLOW).map(|count| join_slow(node, "many", others + count)).collect();
        let resident = node.resident_bytes();
        let mut most = 0;
        publish_until(&mut publisher, || {
            most = most.max(node.resident_bytes());
            subscriptions(node) == others
        });
        let grown = most.saturating_sub(resident);
        assert!(grown < 32 << 20, "{} KiB more in memory", grown / 1024);
        wait_until("they are gone", || node.metrics().closed("slow_reader") == SLOW as f64);
        publisher.send_text("end");
        readers.into_iter().for_each(|reader| drop(reader.join().unwrap()));
        drop(slow);
    });
}

/// It is not read from either, so what it is owed stays small, and its age ends it.
#[test]
fn who_sends_without_reading_is_closed_as_a_slow_reader() {
    Flock::each(&["limits.backlog_age=1s"], |flock| {
        let node = flock.node(0);
        let mut deaf = Client::join_with_little_room(node.address, "own");
        let began_at = Instant::now();
        let some = frame(Opcode::Binary, &[1; 1024]).repeat(20);
        while deaf.try_send_bytes(&some).is_ok() {
            assert!(began_at.elapsed() < PATIENCE, "it was never closed");
        }
        wait_until("it is counted", || node.metrics().closed("slow_reader") == 1.0);
    });
}
