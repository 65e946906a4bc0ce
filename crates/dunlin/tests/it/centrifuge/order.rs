//! The order of what clients are told: replies as commands came, nothing before the reply to
//! connect, no publication before the reply that tells of its subscription.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{each, node};
use crate::harness::{
    CentrifugeClient, Client, Node, Opcode, connect as connect_to, frame, token, upgrade_request,
};

/// The ids of all replies in a message, and null for its pushes.
fn ids(message: &[Value]) -> Vec<Value> {
    message.iter().map(|line| line["id"].clone()).collect()
}

#[test]
fn what_is_sent_together_is_answered_in_order() {
    each(&[], |flock| {
        let mut client = CentrifugeClient::open(&flock.nodes[0]);
        let token = token(&json!({"sub": "42", "channels": ["own"]}));
        client.pipeline(&[
            ("connect", json!({"token": token})),
            ("subscribe", json!({"channel": "kept:a"})),
            ("publish", json!({"channel": "kept:a", "data": 1})),
            ("history", json!({"channel": "kept:a", "limit": 9})),
        ]);
        let replies: Vec<_> = (0..5).map(|_| client.next()).collect();
        assert!(replies[0]["connect"]["subs"]["own"].is_object(), "{replies:?}");
        assert_eq!(replies[1]["id"], 2);
        // A publish behind its subscribe counts, and so does a question behind its subscribe.
        assert!(replies[2..].iter().any(|reply| *reply == json!({"id": 3, "publish": {}})));
        assert!(replies[2..].iter().any(|reply| reply["push"]["pub"]["data"] == 1));
        assert!(replies[2..].iter().any(|reply| reply["history"].is_object()), "{replies:?}");
    });
}

#[test]
fn what_is_sent_with_the_upgrade_counts() {
    let node = node(&[]);
    let connect = json!({"id": 1, "connect": {"token": token(&json!({"sub": "42"}))}});
    let subscribe = json!({"id": 2, "subscribe": {"channel": "c"}});
    let early = frame(Opcode::Text, format!("{connect}\n{subscribe}\n").as_bytes());
    let request = [upgrade_request("/connection/websocket").as_bytes(), &early].concat();
    let (socket, _) = Client::upgrade_bytes(connect_to(node.address).unwrap(), &request).unwrap();
    let mut client = CentrifugeClient::on(socket);
    assert!(client.next()["connect"].is_object());
    assert_eq!(client.next(), json!({"id": 2, "subscribe": {}}));
}

#[test]
fn what_is_not_kept_has_no_place_among_what_is() {
    each(&[], |flock| {
        let mut client = CentrifugeClient::connect(flock.node(1), "42");
        client.subscribe("kept:a");
        for (number, skip) in [(1, false), (2, true), (3, true), (4, false)] {
            let body = json!({"channel": "kept:a", "data": number, "skip_history": skip});
            flock.node(0).result("publish", &body.to_string());
        }
        let come = [(); 4].map(|()| client.push()["pub"].take());
        assert_eq!(come.each_ref().map(|publication| publication["data"].clone()), [1, 2, 3, 4]);
        let offsets = come.each_ref().map(|publication| publication["offset"].as_u64());
        assert_eq!(offsets, [Some(1), None, None, Some(2)]);
    });
}

#[test]
fn replies_leave_in_one_message() {
    let node = node(&[]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let unknown = json!({"channel": "not:there"});
    client.pipeline(&[
        ("subscribe", unknown.clone()),
        ("presence", unknown.clone()),
        ("rpc", json!({})),
        ("history", unknown.clone()),
        ("publish", json!({"channel": "not:there", "data": 1})),
        ("unsubscribe", unknown),
    ]);
    assert_eq!(ids(&client.next_message()), [2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_channel_can_be_left_and_entered_in_one_message() {
    each(&[], |flock| {
        let mut client = CentrifugeClient::connect(&flock.nodes[0], "42");
        let channel = json!({"channel": "kept:a"});
        let first = client.pipeline(&[
            ("subscribe", channel.clone()),
            ("subscribe", channel.clone()),
            ("unsubscribe", channel.clone()),
            ("publish", json!({"channel": "kept:a", "data": "not heard"})),
            ("subscribe", channel.clone()),
            ("history", channel.clone()),
            ("unsubscribe", channel.clone()),
            ("subscribe", channel),
        ]);
        let mut reply = |number| client.reply(first + number);
        assert!(reply(0)["subscribe"].is_object());
        assert_eq!(reply(1)["error"]["code"], 105);
        assert!(reply(2)["unsubscribe"].is_object());
        assert!(reply(3)["publish"].is_object());
        assert!(reply(4)["subscribe"].is_object());
        assert!(reply(5)["history"].is_object());
        assert!(reply(6)["unsubscribe"].is_object());
        assert!(reply(7)["subscribe"].is_object());
        client.publish("kept:a", "heard");
        while client.publication("kept:a") != json!("heard") {}
        client.expect_nothing();
    });
}

/// Publishes to three channels until told to stop.
fn publish(node: &Node, stop: &AtomicBool) {
    let mut client = CentrifugeClient::connect(node, "publisher");
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let to = |channel: &str| ("publish", json!({"channel": channel, "data": number}));
        let first = client.pipeline(&[to("kept:a"), to("b"), to("kept:c")]);
        (0..3).for_each(|place| drop(client.reply(first + place)));
    }
}

/// Connects with server-side subscriptions to these channels and looks at what comes: the reply to
/// connect, then each channel's publications one by one.
fn look(node: &Node) {
    let token = token(&json!({"sub": "42", "channels": ["kept:a", "b", "kept:c"]}));
    let mut client = CentrifugeClient::open(node);
    client.pipeline(&[("connect", json!({"token": token}))]);
    let reply = client.next();
    assert_eq!(reply["id"], 1, "before the reply to connect: {reply}");
    let subs = &reply["connect"]["subs"];
    assert_eq!(subs.as_object().unwrap().len(), 3, "{reply}");
    let mut offsets = ["kept:a", "kept:c"].map(|name| (name, subs[name]["offset"].as_u64()));
    let mut count = 0;
    while count < 30 {
        let push = client.push();
        let Some((_, offset)) = offsets.iter_mut().find(|(name, _)| push["channel"] == *name)
        else {
            continue;
        };
        let next = push["pub"]["offset"].as_u64();
        assert_eq!(next, Some(offset.unwrap_or_default() + 1), "{push}");
        *offset = next;
        count += 1;
    }
}

/// Tells the publisher to stop, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_comes_before_the_reply_to_connect() {
    const TIME: Duration = Duration::from_secs(3);
    each(&[], |flock| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| publish(&flock.nodes[0], &stop));
            let _stop = Stop(&stop);
            let until = Instant::now() + TIME;
            thread::scope(|scope| {
                for number in 0..6 {
                    let node = flock.node(number);
                    scope.spawn(move || {
                        while Instant::now() < until {
                            look(node);
                        }
                    });
                }
            });
        });
    });
}

/// As long as a client with a hundred channels and a token for each comes back.
#[test]
fn several_commands_in_one_message_may_be_longer_than_one() {
    let node = node(&["limits.message_bytes=4KiB"]);
    let mut client = CentrifugeClient::connect(&node, "42");
    let subscribe = |number| {
        let channel = format!("closed:{number}");
        let token = token(&json!({"sub": "42", "channel": channel, "info": "x".repeat(300)}));
        ("subscribe", json!({"channel": channel, "token": token}))
    };
    let commands: Vec<_> = (0..50).map(subscribe).collect();
    let first = client.pipeline(&commands);
    for id in first..first + 50 {
        assert!(client.reply(id).get("subscribe").is_some());
    }

    let long = json!({"channel": "c", "data": "x".repeat(4096)});
    client.pipeline(&[("publish", long)]);
    client.expect_close(3501);
}
