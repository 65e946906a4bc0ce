//! Questions to all nodes are answered in full, or it is said what is missing.

use std::{
    thread,
    time::{Duration, Instant},
};

use dunlin_core::{
    channel::ChannelName,
    control::{Answer, Body, Introduction, Message, MessageId, Part},
    ids::NodeId,
};
use redis::Connection;
use serde_json::{Value, json};

use crate::harness::{CentrifugeClient, Flock, KEY_SETTING, Redis, SECRET_SETTING, wait_until};

const SETTINGS: [&str; 4] = [
    KEY_SETTING,
    SECRET_SETTING,
    "channel.without_namespace.allow_subscribe_for_client=true",
    "client.channel_limit=10000",
];

/// Another node, as far as the nodes can tell, that answers as slowly as a test wants.
struct Neighbour {
    redis: Connection,
    said: u64,
}

impl Neighbour {
    fn start(redis: &Redis) -> Self {
        Self { redis: redis.connect(), said: 0 }
    }

    fn say(&mut self, channel: &str, body: Body) {
        let id = MessageId { node: NodeId::new(7), number: self.said };
        self.said += 1;
        let text = Message { id, sent_at_ms: 0, body }.to_text();
        let to = format!("dunlin:$ctl.{channel}");
        redis::cmd("PUBLISH").arg(to).arg(text).exec(&mut self.redis).unwrap();
    }

    /// Is asked what there is at `node`'s API; `answer` gets the question. Returns the result.
    fn is_asked(
        &mut self,
        flock: &Flock,
        method: &str,
        answer: impl FnOnce(&mut Self, MessageId),
    ) -> Value {
        let (name, version) = ("slow".to_owned(), String::new());
        let introduction = Introduction { name, version, revoked: None, layout: None };
        self.say("nodes", Body::Alive(introduction));
        wait_until("the neighbour is known", || {
            flock.nodes[0].result("info", "{}")["missing"].is_array()
        });
        let mut ear = flock.redis.as_ref().unwrap().connect();
        let mut hears = ear.as_pubsub();
        hears.subscribe("dunlin:$ctl.nodes").unwrap();
        thread::scope(|scope| {
            let asked = scope.spawn(|| flock.nodes[0].result(method, "{}"));
            let question = loop {
                let heard = hears.get_message().unwrap();
                let message = Message::parse(heard.get_payload_bytes()).unwrap();
                if matches!(message.body, Body::Question(_)) {
                    break message.id;
                }
            };
            answer(self, question);
            asked.join().unwrap()
        })
    }
}

fn part(to: MessageId, number: u32, is_last: bool) -> Answer {
    let name = ChannelName::new(&format!("c{number}")).unwrap();
    Answer { to, number, is_last, part: Part::Channels(vec![(name, 1)]) }
}

#[test]
fn an_answer_may_be_long_but_no_node_silent() {
    let flock = Flock::redis(1, &SETTINGS);
    let mut neighbour = Neighbour::start(flock.redis.as_ref().unwrap());
    let start = Instant::now();
    let whole = neighbour.is_asked(&flock, "channels", |neighbour, to| {
        for number in 0..6 {
            neighbour
                .say(&format!("node.{}", to.node), Body::Answer(part(to, number, number == 5)));
            // What is tested is an answer that takes its time.
            thread::sleep(Duration::from_millis(400));
        }
    });
    assert!(start.elapsed() > Duration::from_secs(2));
    assert_eq!(whole["channels"].as_object().unwrap().len(), 6, "{whole}");
    assert_eq!((&whole["missing"], &whole["truncated"]), (&Value::Null, &Value::Null));

    let half = neighbour.is_asked(&flock, "channels", |neighbour, to| {
        neighbour.say(&format!("node.{}", to.node), Body::Answer(part(to, 0, false)));
    });
    assert_eq!(half["channels"], json!({}), "nothing is half");
    assert_eq!(half["missing"][0]["name"], "slow");
}

#[test]
fn an_answer_of_more_parts_than_may_be_on_their_way_is_whole() {
    const CHANNELS: usize = 6000;
    let flock = Flock::redis(2, &SETTINGS);
    let mut client = CentrifugeClient::connect(&flock.nodes[1], "42");
    for hundred in 0..CHANNELS / 100 {
        let subscribe =
            |n: usize| ("subscribe", json!({"channel": format!("c{}", hundred * 100 + n)}));
        let first = client.pipeline(&(0..100).map(subscribe).collect::<Vec<_>>());
        client.reply(first + 99);
    }
    let node = &flock.nodes[0];
    wait_until("all are found", || {
        let found = node.result("channels", "{}");
        found["channels"].as_object().unwrap().len() == CHANNELS
    });
    let connections = node.result("connections", "{}");
    let of = &connections["connections"].as_object().unwrap().values().next().unwrap()["state"];
    assert_eq!(of["channels"].as_object().unwrap().len(), CHANNELS);
}

#[test]
fn who_costs_most_comes_first_wherever_it_is() {
    Flock::each(&SETTINGS, |flock| {
        let (near, far) = (flock.node(0), flock.node(1));
        let mut quiet = near.join("quiet");
        let mut busy = far.join("busy");
        for _ in 0..100 {
            busy.send_text("work");
            assert_eq!(busy.receive_text(), "work");
        }
        let mut member = CentrifugeClient::connect(near, "eve");
        let client = near.result("connections", "{}")["connections"].as_object().unwrap().clone();
        let client = client.keys().next().unwrap().clone();
        for channel in ["a", "b", "c"] {
            member.subscribe(channel);
        }
        let top = |body: &str| near.result("top", body)["top"].as_array().unwrap().clone();

        let by_time = top(r#"{"limit": 2}"#);
        assert_eq!(by_time.len(), 2);
        assert_eq!((&by_time[0]["dialect"], &by_time[0]["user"]), (&json!("plain"), &json!("")));
        assert_eq!(by_time[0]["address"], "127.0.0.1");
        assert!(by_time[0]["used_us"].as_u64().unwrap() >= 400, "{by_time:?}");

        let by_channels = top(r#"{"by": "channels"}"#);
        assert_eq!(by_channels.len(), 3);
        let first = &by_channels[0];
        assert_eq!((&first["client"], &first["user"]), (&json!(client), &json!("eve")));
        assert_eq!(
            (&first["num_channels"], &first["dialect"]),
            (&json!(3), &json!("centrifuge-json"))
        );
        assert_eq!(by_channels[1]["num_channels"], 1);

        for bad in [r#"{"by": "beauty"}"#, r#"{"limit": 1001}"#] {
            assert_eq!(near.error("top", bad), 107, "{bad}");
        }
        quiet.send_text("still here");
        assert_eq!(quiet.receive_text(), "still here");
    });
}
