//! Lost positions: when Redis forgets, whoever counts positions is told, and nobody else.

use redis::Connection;
use serde_json::{Value, json};

use super::{command, nodes};
use crate::harness::{CentrifugeClient, Client, Flock, Message, Node, Redis, token, wait_until};

/// A client with a subscription of its own.
fn client_side(node: &Node) -> CentrifugeClient {
    let mut client = CentrifugeClient::connect(node, "42");
    client.subscribe("kept:a");
    client
}

/// A client that is subscribed by its token.
fn server_side(node: &Node) -> CentrifugeClient {
    let mut client = CentrifugeClient::open(node);
    client.enter(&token(&json!({"sub": "42", "channels": ["kept:a"]})));
    client
}

/// Those who are in the channel on one node, each in its way.
struct Members {
    client_side: CentrifugeClient,
    server_side: CentrifugeClient,
    plain: Client,
    /// It asked for no position in a channel that would give one.
    unpositioned: CentrifugeClient,
}

impl Members {
    fn enter(node: &Node) -> Self {
        let mut unpositioned = CentrifugeClient::connect(node, "42");
        assert_eq!(unpositioned.subscribe("wish:a").get("positioned"), None);
        Self {
            client_side: client_side(node),
            server_side: server_side(node),
            plain: node.join("kept:a"),
            unpositioned,
        }
    }

    /// All of them hear this.
    fn hear(&mut self, number: u64) {
        assert_eq!(self.client_side.publication("kept:a"), number);
        assert_eq!(self.server_side.publication("kept:a"), number);
        assert_eq!(self.plain.receive_text(), number.to_string());
        assert_eq!(self.unpositioned.publication("wish:a"), number);
    }

    /// Each is told in its way, or not. `epoch` is forgotten.
    fn lose(mut self, epoch: &Value) -> Self {
        let lost = json!({"code": 2500, "reason": "insufficient state"});
        let push = self.client_side.push();
        assert_eq!(push, json!({"channel": "kept:a", "unsubscribe": lost}));
        self.server_side.expect_close(3010);
        let close = self.plain.receive();
        assert!(matches!(close, Message::Close(1013, _)), "{close:?}");
        self.unpositioned.expect_nothing();

        // Refused while links are made anew.
        let mut subscribed = json!(null);
        let params = json!({"channel": "kept:a", "recover": true, "offset": 2, "epoch": epoch});
        wait_until("it can subscribe again", || {
            subscribed = self.client_side.command("subscribe", params.clone())["subscribe"].take();
            subscribed.is_object()
        });
        assert_eq!(subscribed.get("recovered"), None, "{subscribed}");
        assert_ne!(subscribed["epoch"], *epoch);
        self
    }
}

fn forget(redis: &mut Connection) {
    redis::cmd("FLUSHALL").exec(redis).unwrap();
}

/// Publishes to both channels.
fn publish(flock: &Flock, number: u64) -> Value {
    let publish = |channel: &str| {
        let body = json!({"channel": channel, "data": number}).to_string();
        flock.nodes[0].result("publish", &body)
    };
    publish("wish:a");
    publish("kept:a")
}

#[test]
fn a_publication_shows_that_positions_are_lost() {
    let flock = nodes(2, &[]);
    let mut redis = flock.redis.as_ref().unwrap().connect();
    let mut members: Vec<_> = flock.nodes.iter().map(Members::enter).collect();
    let [_, published] = [1, 2].map(|number| publish(&flock, number));
    for number in [1, 2] {
        members.iter_mut().for_each(|members| members.hear(number));
    }
    forget(&mut redis);
    publish(&flock, 3);
    let lose = |mut members: Members| {
        assert_eq!(members.unpositioned.publication("wish:a"), 3);
        members.lose(&published["epoch"])
    };
    let mut members: Vec<_> = members.into_iter().map(lose).collect();
    publish(&flock, 4);
    for members in &mut members {
        assert_eq!(members.unpositioned.publication("wish:a"), 4);
        assert_eq!(members.client_side.publication("kept:a"), 4);
    }
    drop(members);
    flock.nodes.iter().for_each(Node::wait_until_empty);
}

#[test]
fn a_new_link_shows_that_positions_are_lost() {
    let flock = nodes(1, &[]);
    let mut redis = flock.redis.as_ref().unwrap().connect();
    let mut members = Members::enter(&flock.nodes[0]);
    let [_, published] = [1, 2].map(|number| publish(&flock, number));
    members.hear(1);
    members.hear(2);
    forget(&mut redis);
    for kind in ["normal", "pubsub"] {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("yes");
        kill.exec(&mut redis).unwrap();
    }
    members.lose(&published["epoch"]);
}

/// Who enters while positions turn out to be lost hears what follows.
#[test]
fn newcomers_are_not_lost_with_positions() {
    let flock = nodes(1, &["shards=1"]);
    let mut redis = flock.redis.as_ref().unwrap().connect();
    let node = &flock.nodes[0];
    for number in 0..30 {
        let mut old = client_side(node);
        publish(&flock, 1);
        assert_eq!(old.publication("kept:a"), 1);
        forget(&mut redis);
        let mut new: Vec<_> = (0..4).map(|_| CentrifugeClient::connect(node, "42")).collect();
        let mut publisher = CentrifugeClient::connect(node, "43");
        publisher.pipeline(&[("publish", json!({"channel": "kept:a", "data": 2}))]);
        for client in &mut new {
            client.pipeline(&[("subscribe", json!({"channel": "kept:a"}))]);
        }
        assert_eq!(old.push()["unsubscribe"]["code"], 2500, "{number}");
        for client in &mut new {
            assert!(client.reply(2)["subscribe"].is_object());
        }
        publish(&flock, 3);
        for client in &mut new {
            hear_or_turn(client);
        }
    }
}

/// The third publication comes, or the news that it may be missing.
fn hear_or_turn(client: &mut CentrifugeClient) {
    loop {
        let push = client.push();
        if push["pub"]["data"] == 3 || push["unsubscribe"]["code"] == 2500 {
            return;
        }
        assert_eq!(push["pub"]["data"], 2, "{push}");
    }
}

/// Without history they would sit there and hear nothing.
#[test]
fn who_is_in_a_channel_that_redis_takes_away_is_told() {
    let redis = Redis::start();
    let mut admin = redis.connect();
    let mut allow = |rules: &[&str]| {
        let _: () =
            redis::cmd("ACL").arg("SETUSER").arg("ann").arg(rules).query(&mut admin).unwrap();
    };
    allow(&["on", ">pass", "+@all", "~*", "allchannels"]);
    let url = format!("redis.url={}", redis.url().replace("://", "://ann:pass@"));
    let node = command(&[&url]).start();
    let mut client = CentrifugeClient::connect(&node, "42");
    client.subscribe("bare");
    let mut plain = node.join("bare");
    let mut other = node.join("other");
    let mut server_side = CentrifugeClient::open(&node);
    server_side.enter(&token(&json!({"sub": "42", "channels": ["bare"]})));

    // Redis ends connections that hold what their user may have no more.
    allow(&["resetchannels", "&dunlin:other", "&dunlin:$ctl.*", "&dunlin:\u{1}*"]);
    let lost = json!({"code": 2500, "reason": "insufficient state"});
    assert_eq!(client.push(), json!({"channel": "bare", "unsubscribe": lost}));
    assert_eq!(plain.receive_close().0, 1013);
    server_side.expect_close(3010);
    wait_until("the others go on", || node.status_of("/ready") == 200);
    other.send_text("here");
    assert_eq!(other.receive_text(), "here");
}
