//! Rates: whoever does too much waits, or is told so, until it may again; who is beside it does not
//! notice.

use std::{
    io::{BufReader, Write},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    CentrifugeClient, Client, KEY, KEY_SETTING, Node, NodeCommand, Response, SECRET_SETTING,
    connect_from, read_response, token, upgrade_request, wait_until,
};

/// A plain client from 127.0.0.`host`.
fn join_from(node: &Node, host: u8, channel: &str) -> Client {
    let stream = connect_from(host, node.address);
    Client::upgrade(stream, &upgrade_request(&format!("/ws/{channel}"))).unwrap().0
}

/// A Centrifuge client from 127.0.0.`host` that is not in yet.
fn open_from(node: &Node, host: u8) -> CentrifugeClient {
    let stream = connect_from(host, node.address);
    let request = upgrade_request("/connection/websocket");
    CentrifugeClient::on(Client::upgrade(stream, &request).unwrap().0)
}

fn enter_from(node: &Node, host: u8, user: &str) -> CentrifugeClient {
    let mut client = open_from(node, host);
    client.enter(&token(&json!({"sub": user})));
    client
}

fn limited(node: &Node, kind: &str, scope: &str) -> f64 {
    let name = "dunlin_rate_limited_total";
    node.metrics().sum(&format!("{name}{{kind=\"{kind}\",scope=\"{scope}\"}}"))
}

/// Sends all at once and reads the echo; says how long that took.
fn time_of_echo(client: &mut Client, messages: &[String]) -> Duration {
    let began_at = Instant::now();
    for message in messages {
        client.send_text(message);
    }
    for message in messages {
        assert_eq!(client.receive_text(), *message);
    }
    began_at.elapsed()
}

fn numbered(count: usize, bytes: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:0bytes$}")).collect()
}

/// A plain flooder has its `messages` published at the rate of `setting`, which takes `at_least`;
/// meanwhile whoever is beside it is served, and afterwards so is the flooder.
fn check_wait(setting: &str, kind: &str, scope: &str, messages: &[String], at_least: Duration) {
    let node = Node::start(&["shards=1", setting]);
    let mut beside = join_from(&node, 3, "beside");
    let mut flooder = join_from(&node, 2, "flood");
    std::thread::scope(|threads| {
        let flood = threads.spawn(|| time_of_echo(&mut flooder, messages));
        wait_until("it is not read from", || limited(&node, kind, scope) > 0.0);
        let one = &messages[..1];
        let other = time_of_echo(&mut beside, one);
        assert!(!flood.is_finished(), "{setting}: waits no longer; who is beside it: {other:?}");
        let took = flood.join().unwrap();
        assert!(took >= at_least, "{setting}: {took:?}");
    });
    time_of_echo(&mut flooder, &messages[..1]);
    flooder.close();
    beside.close();
    node.wait_until_empty();
}

#[test]
fn who_sends_too_much_is_not_read_from_for_a_while() {
    let little = numbered(30, 3);
    // Ten at once, and one on credit.
    let nearly_two_seconds = Duration::from_millis(1_800);
    for (setting, kind, scope) in [
        ("rate_limits.connection.messages=10 burst 10", "messages", "connection"),
        ("rate_limits.connection.publications=10 burst 10", "publications", "connection"),
        ("rate_limits.connection.deliveries=10 burst 10", "deliveries", "connection"),
        ("rate_limits.address.messages=10 burst 10", "messages", "address"),
    ] {
        check_wait(setting, kind, scope, &little, nearly_two_seconds);
    }
    // The last read may be on credit.
    let large = numbered(6, 40_000);
    let setting = "rate_limits.connection.bytes=40KB burst 80KB";
    check_wait(setting, "bytes", "connection", &large, nearly_two_seconds);
}

/// One to nine others and itself is ten.
#[test]
fn a_publication_of_a_plain_client_costs_its_subscribers() {
    let node = Node::start(&["shards=1", "rate_limits.connection.deliveries=20 burst 20"]);
    let mut flooder = node.join("flood");
    let mut others: Vec<_> = (0..9).map(|_| node.join("flood")).collect();
    let messages = numbered(5, 1);
    let took = time_of_echo(&mut flooder, &messages);
    // Two at once, and one on credit.
    assert!(took >= Duration::from_millis(900), "{took:?}");
    for other in &mut others {
        messages.iter().for_each(|message| assert_eq!(other.receive_text(), *message));
    }
}

#[test]
fn connections_of_an_address_share_its_bound() {
    let node = Node::start(&["rate_limits.address.publications=10 burst 10"]);
    let began_at = Instant::now();
    let mut clients: Vec<_> = (0..4).map(|_| join_from(&node, 2, "flood")).collect();
    for client in &mut clients {
        (0..10).for_each(|_| client.send_text("x"));
    }
    let mut other = join_from(&node, 3, "beside");
    other.send_text("y");
    assert_eq!(other.receive_text(), "y");
    for client in &mut clients {
        (0..40).for_each(|_| assert_eq!(client.receive_text(), "x"));
    }
    let took = began_at.elapsed();
    assert!(took >= Duration::from_millis(2_500), "{took:?}");
}

/// Waiting is no reason to be closed: no ping is asked after, no message is too old.
#[test]
fn who_waits_is_neither_late_nor_quiet() {
    let node = Node::start(&[
        "rate_limits.connection.messages=1 burst 1",
        "limits.message_age=1s",
        "ws.ping_interval=1s",
        "ws.pong_timeout=500ms",
    ]);
    let mut flooder = node.join("flood");
    // The last one ends later than limits.message_age after its beginning.
    flooder.send_text("1");
    flooder.send_text("2");
    flooder.send_text("3");
    flooder.send_text("4");
    for expected in ["1", "2", "3", "4"] {
        assert_eq!(flooder.receive_text(), expected);
    }
}

#[test]
fn who_waits_can_be_told_to_leave() {
    let mut node = Node::start(&["rate_limits.connection.messages=1 burst 1"]);
    let mut flooder = node.join("flood");
    (0..100).for_each(|_| flooder.send_text("x"));
    wait_until("it waits", || limited(&node, "messages", "connection") > 0.0);
    node.signal(Signal::TERM);
    let (code, _) = flooder.receive_close();
    assert_eq!(code, 1012);
    assert!(node.wait_for_end().success());
}

const OPEN: &str = r#"
    [client.token]
    hmac_secret_key = "secret"

    [channel.without_namespace]
    history_size = 10
    history_ttl = "60s"
    allow_recovery = true
    presence = true
    allow_subscribe_for_client = true
    allow_publish_for_client = true
    allow_presence_for_client = true
    allow_history_for_client = true
"#;

fn open_node(settings: &[&str]) -> Node {
    NodeCommand::new().text(OPEN).set(settings).start()
}

fn publish(_: usize) -> (&'static str, Value) {
    ("publish", json!({"channel": "news", "data": 1}))
}

/// Sends twenty of a kind; says how many were done. The others were refused in the words of the
/// protocol.
fn done(client: &mut CentrifugeClient, command: impl Fn(usize) -> (&'static str, Value)) -> usize {
    let commands: Vec<_> = (0..20).map(command).collect();
    let first = client.pipeline(&commands);
    let mut is_done = |id| {
        let reply = client.reply(id);
        let error = reply.get("error");
        let refusal = json!({"code": 111, "message": "too many requests", "temporary": true});
        assert!(error.is_none_or(|error| *error == refusal), "{reply}");
        error.is_none()
    };
    (first..first + 20).filter(|id| is_done(*id)).count()
}

/// Of twenty commands of a flooder a few are done; all of who is beside it, and later more of it.
fn check_refusals(deed: &str, command: impl Fn(usize) -> (&'static str, Value) + Copy) {
    let setting = format!("rate_limits.connection.{deed}=1 burst 5");
    let node = open_node(&["shards=1", &setting]);
    let (mut flooder, mut beside) = (enter_from(&node, 2, "1"), enter_from(&node, 2, "2"));
    let count = done(&mut flooder, command);
    assert!((5..10).contains(&count), "{deed}: {count}");
    let (method, params) = command(100);
    beside.result(method, params);
    assert_eq!(limited(&node, deed, "connection") as usize, 20 - count, "{deed}");
    wait_until("it may again", || {
        let (method, params) = command(200);
        flooder.command(method, params).get("error").is_none()
    });
}

#[test]
fn commands_that_are_too_many_are_refused() {
    check_refusals("publications", publish);
    check_refusals("subscribes", |number| ("subscribe", json!({"channel": format!("n{number}")})));
    check_refusals("questions", |number| {
        let method = ["history", "presence", "presence_stats"][number % 3];
        (method, json!({"channel": "news"}))
    });
    check_refusals("questions", |number| {
        let channel = format!("r{number}");
        let back = json!({"channel": channel, "recover": true, "offset": 0, "epoch": ""});
        ("subscribe", back)
    });
}

#[test]
fn a_publication_costs_its_subscribers() {
    let node = open_node(&["shards=1", "rate_limits.connection.deliveries=1 burst 12"]);
    let mut subscribers: Vec<_> = (0..4).map(|_| enter_from(&node, 3, "1")).collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe("news");
    }
    let mut flooder = enter_from(&node, 2, "2");
    let count = done(&mut flooder, publish);
    assert!((3..5).contains(&count), "{count}");
    // What nobody hears costs nothing.
    let unheard = |_| ("publish", json!({"channel": "empty", "data": 1}));
    assert_eq!(done(&mut flooder, unheard), 20);
    assert_eq!(limited(&node, "deliveries", "connection") as usize, 20 - count);
}

#[test]
fn connections_of_a_user_share_its_bound() {
    let node = open_node(&["rate_limits.user.publications=1 burst 20"]);
    let (mut first, mut second) = (enter_from(&node, 2, "1"), enter_from(&node, 3, "1"));
    let count = done(&mut first, publish) + done(&mut second, publish);
    assert!((20..30).contains(&count), "{count}");
    assert!(limited(&node, "publications", "user") >= 10.0);
    let mut other = enter_from(&node, 2, "2");
    assert_eq!(done(&mut other, publish), 20);
}

#[test]
fn users_of_an_address_share_its_bound() {
    let node = open_node(&["rate_limits.address.publications=1 burst 20"]);
    let (mut first, mut second) = (enter_from(&node, 2, "1"), enter_from(&node, 2, "2"));
    let count = done(&mut first, publish) + done(&mut second, publish);
    assert!((20..30).contains(&count), "{count}");
    assert!(limited(&node, "publications", "address") >= 10.0);
    let mut other = enter_from(&node, 3, "1");
    assert_eq!(done(&mut other, publish), 20);
}

/// In the Centrifuge dialect commands count, however many a message has, and wait in order.
#[test]
fn commands_of_a_message_are_taken_at_the_rate() {
    let node = open_node(&["rate_limits.connection.messages=10 burst 10"]);
    let (mut flooder, mut beside) = (enter_from(&node, 2, "1"), enter_from(&node, 2, "2"));
    let began_at = Instant::now();
    let first = flooder.pipeline(&(0..30).map(publish).collect::<Vec<_>>());
    let (method, params) = publish(0);
    beside.result(method, params);
    for id in first..first + 30 {
        assert!(flooder.next().get("publish").is_some(), "{id} in order");
    }
    assert!(began_at.elapsed() >= Duration::from_millis(1_800));
    assert!(limited(&node, "messages", "connection") > 0.0);
}

#[test]
fn who_goes_on_is_closed_and_may_come_again() {
    let node = open_node(&["rate_limits.connection.publications=1 burst 1"]);
    let mut flooder = enter_from(&node, 2, "1");
    flooder.pipeline(&(0..400).map(publish).collect::<Vec<_>>());
    flooder.expect_close(3013);
    wait_until("it is gone", || node.metrics().closed("too_many_requests") == 1.0);
    let mut again = enter_from(&node, 2, "1");
    let (method, params) = publish(0);
    again.result(method, params);
}

#[test]
fn bad_tokens_of_an_address_are_not_looked_at_for_ever() {
    let node = Node::start(&[SECRET_SETTING, "rate_limits.bad_tokens=1 burst 3"]);
    let good = token(&json!({"sub": "42"}));
    for _ in 0..3 {
        let mut forger = open_from(&node, 2);
        forger.pipeline(&[("connect", json!({"token": "a.b.c"}))]);
        forger.expect_close(3500);
    }
    let mut beside = open_from(&node, 2);
    assert_eq!(beside.error("connect", json!({"token": good})), 111);
    assert!(limited(&node, "bad_tokens", "address") >= 1.0);
    enter_from(&node, 3, "42");
    wait_until("the address may try again", || {
        let reply = open_from(&node, 2).command("connect", json!({"token": good}));
        reply.get("connect").is_some()
    });
}

/// A call of the API from 127.0.0.`host`.
fn call_from(node: &Node, host: u8, key: &str) -> Response {
    let mut stream = connect_from(host, node.address);
    let request = format!(
        "POST /api/info HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Length: 2\r\n\
         Connection: close\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    read_response(&mut BufReader::new(stream)).unwrap()
}

#[test]
fn bad_keys_of_an_address_are_not_looked_at_for_ever() {
    let node = Node::start(&[KEY_SETTING, "rate_limits.bad_keys=1 burst 3"]);
    for _ in 0..3 {
        assert_eq!(call_from(&node, 2, "guess").status, 401);
    }
    let refusal = call_from(&node, 2, KEY);
    assert_eq!(refusal.status, 429);
    assert!(refusal.header("retry-after").is_some());
    assert!(limited(&node, "bad_keys", "address") >= 1.0);
    assert_eq!(call_from(&node, 3, KEY).status, 200);
    wait_until("the address may try again", || call_from(&node, 2, KEY).status == 200);
    // Good ones may be as many as one likes.
    (0..10).for_each(|_| assert_eq!(call_from(&node, 3, KEY).status, 200));
}

/// A node whose namespace `slow` takes five publications at once and two a second.
fn slow_node() -> Node {
    let slow = r#"
        [http_api]
        key = "k3y"

        [[channel.namespaces]]
        name = "slow"
        publications_per_second = "2 burst 5"
        allow_publish_for_client = true
        allow_plain_subscribe = true
        allow_plain_publish = true
    "#;
    NodeCommand::new().text(&format!("{OPEN}{slow}")).set(&["shards=2"]).start()
}

#[test]
fn publishers_of_a_channel_share_its_bound() {
    let node = slow_node();
    let (mut first, mut second) = (enter_from(&node, 2, "1"), enter_from(&node, 3, "2"));
    let slow = |_| ("publish", json!({"channel": "slow:a", "data": 1}));
    let count = done(&mut first, slow) + done(&mut second, slow);
    assert!((5..15).contains(&count), "{count}");
    let body = r#"{"channel": "slow:a", "data": 1}"#;
    wait_until("the api meets the bound", || node.call("publish", body)["error"]["code"] == 111);
    assert_eq!(limited(&node, "publications", "channel") as usize, 40 - count + 1);
    // Other channels have theirs, and the next second has more.
    node.result("publish", r#"{"channel": "slow:b", "data": 1}"#);
    assert_eq!(done(&mut first, publish), 20);
    wait_until("it may again", || node.call("publish", body).get("error").is_none());
}

#[test]
fn a_plain_flooder_of_a_channel_with_a_bound_waits() {
    let node = slow_node();
    let mut flooder = join_from(&node, 2, "slow:a");
    let mut beside = join_from(&node, 3, "slow:b");
    // Five at once, one on credit, and two a second.
    let took = time_of_echo(&mut flooder, &numbered(9, 1));
    assert!(took >= Duration::from_millis(1_400), "{took:?}");
    assert!(limited(&node, "publications", "channel") >= 1.0);
    time_of_echo(&mut beside, &numbered(3, 1));
}

/// A subscriber that reads nothing for a while owes the node next to nothing, then gets what is
/// newest, and was never closed; one that reads gets it, too.
#[test]
fn who_is_behind_in_a_channel_that_conflates_gets_the_newest() {
    let prices = r#"
        [[channel.namespaces]]
        name = "prices"
        conflate = true
        allow_publish_for_client = true
        allow_plain_subscribe = true
    "#;
    let node = NodeCommand::new().text(&format!("{OPEN}{prices}")).set(&["shards=1"]).start();
    let mut behind = Client::join_with_little_room(node.address, "prices:x");
    let mut reads = node.join("prices:x");
    let mut publisher = enter_from(&node, 2, "1");
    let filler = "x".repeat(20_000);
    let price = |number: usize| json!({"channel": "prices:x", "data": [number, filler]});
    let numbers = |text: String| -> usize {
        serde_json::from_str::<Value>(&text).unwrap()[0].as_u64().unwrap() as usize
    };
    // Ten times limits.backlog_bytes.
    for number in 1..=500 {
        publisher.result("publish", price(number));
    }
    let mut last = 0;
    while last < 500 {
        let number = numbers(reads.receive_text());
        assert!(number > last, "{number} behind {last}");
        last = number;
    }
    let owed = node.metrics().sum("dunlin_backlog_bytes");
    assert!(owed < 100_000.0, "{owed} bytes wait for one client");
    let (mut last, mut count) = (0, 0);
    while last < 500 {
        let number = numbers(behind.receive_text());
        assert!(number > last, "{number} behind {last}");
        (last, count) = (number, count + 1);
    }
    assert!(count < 400, "{count}");
    assert_eq!(node.metrics().closed("slow_reader"), 0.0);
    drop((behind, reads, publisher));
    node.wait_until_empty();
    assert_eq!(node.metrics().sum("dunlin_backlog_bytes"), 0.0);
}
