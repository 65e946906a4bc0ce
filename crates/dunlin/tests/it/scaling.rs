//! Several nodes over one Redis, and programs that know nothing of nodes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use redis::Commands;

use crate::harness::{
    Client, Flock, Listener, Message, NodeCommand, Redis, check, publish, wait_until,
};

/// How many of Redis' clients are subscribed to a Redis channel.
fn subscribers(redis: &Redis, channel: &str) -> usize {
    let (_, count): (String, usize) =
        redis::cmd("PUBSUB").arg(&["NUMSUB", channel]).query(&mut redis.connect()).unwrap();
    count
}

/// The channels that nodes are subscribed to for their clients.
fn redis_channels(redis: &Redis) -> Vec<String> {
    let all: Vec<String> =
        redis::cmd("PUBSUB").arg("CHANNELS").query(&mut redis.connect()).unwrap();
    let own = |channel: &String| channel.contains(":$ctl.") || channel.contains("probe:");
    all.into_iter().filter(|channel| !own(channel)).collect()
}

#[test]
fn whatever_is_published_on_one_node_reaches_the_clients_of_all() {
    let flock = Flock::redis(3, &[]);
    let mut clients = flock.join("everywhere", 6);
    for turn in 0..6 {
        clients[turn].send_text(&format!("from {turn}"));
        clients.iter_mut().for_each(|c| assert_eq!(c.receive_text(), format!("from {turn}")));
        let data: Vec<u8> = (0..=255).rev().collect();
        clients[turn].send_binary(&data);
        for client in &mut clients {
            assert_eq!(client.receive(), Message::Binary(data.clone()));
        }
    }
}

/// A program as tutorials show it: raw PUBLISH and SUBSCRIBE.
#[test]
fn a_program_that_knows_only_redis_takes_part_as_an_equal() {
    for (prefix, name) in [("dunlin:", "dunlin:chat_channel"), ("", "chat_channel")] {
        let flock = Flock::redis(2, &[&format!("redis.channel_prefix={prefix}")]);
        let mut clients: Vec<_> =
            (0..4).map(|turn| Client::open(flock.node(turn).address, "/ws")).collect();
        let redis = flock.redis.as_ref().unwrap();
        let mut program = redis.connect();
        for text in ["hello", "", "grüße 🐦", "{\"from\":\"a program\"}"] {
            let reached: usize = program.publish(name, text).unwrap();
            assert_eq!(reached, 2);
            clients.iter_mut().for_each(|client| assert_eq!(client.receive_text(), text));
        }
        let _: usize = program.publish(name, &b"\x00\x80 is no text"[..]).unwrap();
        for client in &mut clients {
            assert_eq!(client.receive(), Message::Binary(b"\x00\x80 is no text".to_vec()));
        }

        let mut listening = redis.connect();
        let mut listening = listening.as_pubsub();
        listening.subscribe(name).unwrap();
        clients[0].send_text("typed by a client");
        clients[0].send_binary(b"valid text, sent as binary");
        let mut payload = || listening.get_message().unwrap().get_payload::<Vec<u8>>().unwrap();
        assert_eq!(payload(), b"typed by a client");
        let envelope = payload();
        assert_eq!(envelope[0], 0xff);
        assert!(envelope.ends_with(b"valid text, sent as binary"), "{envelope:?}");
    }
}

#[test]
fn what_only_newer_nodes_can_read_is_skipped_and_counted_and_all_else_is_delivered() {
    let flock = Flock::redis(1, &[]);
    let node = flock.node(0);
    let mut client = node.join("odd");
    let mut program = flock.redis.as_ref().unwrap().connect();
    let newer = b"\xffDun\x63later version";
    let _: usize = program.publish("dunlin:odd", &newer[..]).unwrap();
    let odd: [&[u8]; 3] = [b"\xff", b"\xff\x00", b"\xff\xff\xff"];
    for payload in odd {
        let _: usize = program.publish("dunlin:odd", payload).unwrap();
        assert_eq!(client.receive(), Message::Binary(payload.to_vec()));
    }
    let _: usize = program.publish("dunlin:odd", "fine").unwrap();
    assert_eq!(client.receive_text(), "fine");
    assert_eq!(node.metrics().sum("dunlin_redis_messages_skipped_total"), 1.0);
}

#[test]
fn flocks_with_different_prefixes_do_not_hear_each_other() {
    let redis = Redis::start();
    let start = |prefix: &str| {
        let url = format!("redis.url={}", redis.url());
        NodeCommand::new().set(&[&url, &format!("redis.channel_prefix={prefix}")]).start()
    };
    let nodes = [start("a:"), start("b:")];
    let mut clients = [nodes[0].join("c"), nodes[1].join("c")];
    clients[0].send_text("in a");
    clients[1].send_text("in b");
    assert_eq!(clients[0].receive_text(), "in a");
    assert_eq!(clients[1].receive_text(), "in b");
    assert!(clients.iter().all(|client| client.is_silent_for(Duration::from_millis(20))));
}

#[test]
fn a_node_is_subscribed_to_what_its_clients_want_and_lingers_a_little() {
    const LINGER: Duration = Duration::from_secs(5);
    let flock = Flock::redis(2, &[]);
    let redis = flock.redis.as_ref().unwrap();
    let first = flock.node(0).join("wanted");
    let second = flock.node(0).join("wanted");
    assert_eq!(subscribers(redis, "dunlin:wanted"), 1);
    let other = flock.node(1).join("wanted");
    assert_eq!(subscribers(redis, "dunlin:wanted"), 2);
    let alone = flock.node(1).join("alone");
    assert_eq!(subscribers(redis, "dunlin:alone"), 1);

    other.close();
    first.close();
    alone.close();
    let left_at = Instant::now();
    flock.node(1).wait_until_empty();
    // Who comes back within the linger costs Redis nothing.
    let alone = flock.node(1).join("alone");
    wait_until("node 1 has left", || subscribers(redis, "dunlin:wanted") == 1);
    assert!(left_at.elapsed() >= LINGER);
    assert_eq!(subscribers(redis, "dunlin:alone"), 1);
    drop((second, alone));
    wait_until("all is left", || redis_channels(redis).is_empty());
    for node in &flock.nodes {
        assert_eq!(node.metrics().sum("dunlin_channels"), 0.0);
    }
}

#[test]
fn a_storm_of_channels_that_come_and_go_leaves_nothing() {
    let flock = Flock::redis(2, &[]);
    thread::scope(|scope| {
        for storm in 0..4 {
            let flock = &flock;
            scope.spawn(move || {
                for round in 0..100 {
                    let channel = format!("storm-{}", (round * 7 + storm) % 30);
                    let mut client = flock.node(storm + round).join(&channel);
                    let text = format!("{storm} {round}");
                    client.send_text(&text);
                    // Others are on this channel too.
                    while client.receive_text() != text {}
                }
            });
        }
    });
    for node in &flock.nodes {
        node.wait_until_empty();
        wait_until("its channels are left", || node.metrics().sum("dunlin_channels") == 0.0);
    }
    assert!(redis_channels(flock.redis.as_ref().unwrap()).is_empty());
}

#[test]
fn a_node_that_is_killed_takes_nothing_from_the_clients_of_others() {
    let mut flock = Flock::redis(3, &[]);
    let mut victim = flock.nodes.pop().unwrap();
    let listeners: Vec<_> = flock.join("load", 4).into_iter().map(Listener::start).collect();
    let _doomed: Vec<_> = (0..4).map(|_| victim.join("load")).collect();
    let (stop, everybody_stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut sent = Vec::new();
    thread::scope(|scope| {
        let everybody_stop = &everybody_stop;
        let mut publishers = Vec::new();
        for (number, node) in flock.nodes.iter().enumerate() {
            let name = format!("survivor-{number}");
            publishers.push(scope.spawn(move || publish(node.address, &name, everybody_stop)));
        }
        let (address, stop) = (victim.address, &stop);
        publishers.push(scope.spawn(move || publish(address, "victim", stop)));
        let hear_on = || {
            let from = Instant::now() + Duration::from_millis(300);
            wait_until("all hear", || listeners.iter().all(|l| l.heard_since(from) > 0));
        };
        hear_on();
        victim.kill();
        stop.store(true, Ordering::Relaxed);
        hear_on();
        everybody_stop.store(true, Ordering::Relaxed);
        for publisher in publishers {
            sent.extend(publisher.join().unwrap());
        }
    });
    flock.node(0).join("load").send_text("end");
    for listener in listeners {
        check(&listener.end(), &sent);
    }
    let untold = sent.iter().filter(|sent| !sent.was_told());
    assert_eq!(untold.count(), 2, "a client of a survivor was disconnected");
    for node in &flock.nodes {
        assert_eq!(node.metrics().sum("dunlin_redis_reconnects_total"), 0.0);
        node.wait_until_empty();
    }
}
