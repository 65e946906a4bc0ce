//! Clocks of nodes that are wrong, or jump: nothing that nodes tell each other depends on them.

use std::sync::Arc;

use dunlin_core::{
    broker::{Broker, Publish, ReplyTo},
    channel::ChannelName,
    control::{self, Body, Disconnect, Introduction, Message, MessageId, ORDERS_KEPT, Order, Whom},
    ids::NodeId,
    interest::Interest,
    namespace::Retention,
    publication::{Kind, Publication},
};
use dunlin_redis::{
    broker::{RedisBroker, Settings},
    metrics::LinkMetrics,
};
use tokio::{runtime::Runtime, sync::oneshot};

use crate::harness::{Flock, Redis, SECRET_SETTING, Session, unix_time, wait_until};

/// Another node, as far as the nodes can tell, whose clock says what a test wants.
struct Neighbour {
    runtime: Runtime,
    broker: Arc<RedisBroker>,
    said: u64,
}

impl Neighbour {
    fn start(redis: &Redis) -> Self {
        let runtime = Runtime::new().unwrap();
        // It subscribes to nothing.
        let interest = Arc::new(Interest::new(Vec::new()));
        let settings = Settings::new(redis.url().parse().unwrap());
        let start = RedisBroker::start(settings, interest, LinkMetrics::default());
        let broker = runtime.block_on(start).unwrap();
        Self { runtime, broker, said: 0 }
    }

    /// Says it by a clock that is `ahead_s` seconds ahead.
    fn say(
        &mut self,
        channel: ChannelName,
        retention: Option<Retention>,
        ahead_s: i64,
        body: Body,
    ) {
        let id = MessageId { node: NodeId::new(7), number: self.said };
        self.said += 1;
        let sent_at_ms = unix_time(ahead_s).cast_unsigned() * 1000;
        let text = Message { id, sent_at_ms, body }.to_text();
        let publication = Publication::new(channel, Kind::Text, text.into());
        let (reply, outcome) = oneshot::channel();
        let publish = Publish { publication, retention, terms: None };
        self.broker.publish(&mut vec![(publish, ReplyTo::Caller(reply))]);
        self.runtime.block_on(outcome).unwrap().unwrap();
    }
}

#[test]
fn orders_are_obeyed_at_once_whatever_the_clock_of_their_node_says() {
    let flock = Flock::redis(1, &[SECRET_SETTING]);
    let mut neighbour = Neighbour::start(flock.redis.as_ref().unwrap());
    for ahead_s in [-120, 120, -3600, 3600, 0] {
        let session = Session::connect(flock.nodes[0].address, "42");
        let order = Order::Disconnect(Disconnect {
            whom: Whom { user: "42".into(), client: None },
            whitelist: Vec::new(),
            code: 3503,
            reason: "go".into(),
        });
        neighbour.say(control::orders(), Some(ORDERS_KEPT), ahead_s, Body::Order(order));
        assert_eq!(session.receive_close().0, 3503, "{ahead_s} s ahead");
    }
}

#[test]
fn a_clock_that_differs_is_told_once_and_counted() {
    let flock = Flock::redis(1, &[]);
    let node = &flock.nodes[0];
    let mut neighbour = Neighbour::start(flock.redis.as_ref().unwrap());
    let mut says_twice = |ahead_s| {
        for _ in 0..2 {
            let (name, version) = ("late".to_owned(), String::new());
            let introduction = Introduction { name, version, revoked: None, layout: None };
            neighbour.say(control::nodes(), None, ahead_s, Body::Alive(introduction));
        }
    };
    let difference = || node.metrics().sum("dunlin_clock_difference_seconds");
    for ahead_s in [-120, 3600] {
        says_twice(ahead_s);
        wait_until("the difference is counted", || {
            // The other node's clock counts whole seconds.
            (difference() - ahead_s as f64).abs() < 2.0
        });
    }
    says_twice(0);
    wait_until("the clock is right again", || difference() == 0.0);
    assert_eq!(node.log().matches("the clock of node late differs").count(), 1, "{}", node.log());
}
