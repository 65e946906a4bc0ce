//! The contract of [`Broker`] as a test that every implementation runs, over its real parts.

mod history;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    broker::{Broker, Publish, ReplyTo},
    channel::ChannelName,
    error::PublishOutcome,
    ids::{ConnectionId, ShardId},
    inbox::{Inbox, Notice},
    interest::{Interest, Wish},
    limits::{HISTORY_BYTES, Limits, RING_BYTES, Rate},
    publication::{Kind, Publication},
};

/// A node with two shards, as the broker sees it.
struct Flock {
    inboxes: [Arc<Inbox>; 2],
    interest: Arc<Interest>,
    broker: Arc<dyn Broker>,
}

/// Runs the whole contract against fresh brokers made by `start`. Panics when it is broken.
pub async fn run<S, F>(start: S)
where
    S: Fn(Arc<Interest>) -> F,
    F: Future<Output = Arc<dyn Broker>>,
{
    let flock = Flock::start(&start).await;
    flock.delivers_what_is_published_after_the_acknowledgement().await;
    flock.keeps_payloads_and_kinds().await;
    flock.keeps_one_order_for_all_shards().await;
    flock.publishes_together_what_was_sent_together().await;
    flock.delivers_to_subscribers_of_the_channel_only().await;
    flock.keeps_its_promises_of_history().await;
}

impl Flock {
    async fn start<S, F>(start: &S) -> Self
    where
        S: Fn(Arc<Interest>) -> F,
        F: Future<Output = Arc<dyn Broker>>,
    {
        let limits = limits();
        let inboxes = [(); 2].map(|()| Arc::new(Inbox::new(&limits)));
        let interest = Arc::new(Interest::new(inboxes.to_vec()));
        let broker = start(Arc::clone(&interest)).await;
        assert_eq!(broker.outages(None), []);
        Self { inboxes, interest, broker }
    }

    async fn delivers_what_is_published_after_the_acknowledgement(&self) {
        for round in 0..20 {
            let channel = name(&format!("ack-{round}"));
            self.join(&channel, 0).await;
            self.publish(&channel, Kind::Text, b"first").await;
            assert_eq!(self.receive(0, 1).await[0].data(), b"first");
        }
    }

    async fn keeps_payloads_and_kinds(&self) {
        let channel = name("kinds");
        self.join(&channel, 0).await;
        let payloads: [(Kind, &[u8]); 6] = [
            (Kind::Text, b""),
            (Kind::Text, "grüße \u{1f426}".as_bytes()),
            (Kind::Binary, b""),
            (Kind::Binary, b"looks like text"),
            (Kind::Binary, b"\xff\xff\x00\x01"),
            (Kind::Binary, b"\x00\xfe\xff"),
        ];
        for (kind, data) in payloads {
            self.publish(&channel, kind, data).await;
        }
        let received = self.receive(0, payloads.len()).await;
        for (publication, (kind, data)) in received.iter().zip(payloads) {
            assert_eq!((publication.kind(), publication.data()), (kind, data));
        }
    }

    async fn keeps_one_order_for_all_shards(&self) {
        let channel = name("order");
        self.join(&channel, 0).await;
        self.join(&channel, 1).await;
        let publish = |publisher: usize| {
            let (broker, channel) = (Arc::clone(&self.broker), channel.clone());
            async move {
                for sequence in 0..200 {
                    let data = Bytes::from(format!("{publisher} {sequence}"));
                    let (reply, outcome) = oneshot::channel();
                    let publication = Publication::new(channel.clone(), Kind::Text, data);
                    broker.publish(&mut vec![(publication.into(), ReplyTo::Caller(reply))]);
                    if sequence % 50 == 49 {
                        outcome.await.expect("every publish is answered").expect("it happens");
                    }
                }
            }
        };
        tokio::join!(publish(0), publish(1), publish(2));
        let (left, right) = (self.receive(0, 600).await, self.receive(1, 600).await);
        let texts = |all: &[Arc<Publication>]| -> Vec<Bytes> {
            all.iter().map(|publication| Bytes::copy_from_slice(publication.data())).collect()
        };
        assert_eq!(texts(&left), texts(&right), "both shards see one order");
        for publisher in 0..3 {
            let own = format!("{publisher} ");
            let sequence = texts(&left).into_iter().filter(|text| text.starts_with(own.as_bytes()));
            let expected = (0..200).map(|sequence| Bytes::from(format!("{publisher} {sequence}")));
            assert!(sequence.eq(expected), "a publisher's order is kept");
        }
    }

    async fn publishes_together_what_was_sent_together(&self) {
        let (left, right) = (name("together-left"), name("together-right"));
        self.join(&left, 0).await;
        self.join(&right, 1).await;
        let publisher = ConnectionId { shard: ShardId::new(0), slot: 0, generation: 0 };
        let publication = |number: usize| {
            let channel = if number % 5 < 3 { &left } else { &right };
            let data = Bytes::from(number.to_string());
            let publication = Publication::new(channel.clone(), Kind::Text, data);
            (publication.into(), ReplyTo::Connection(publisher))
        };
        let mut publications: Vec<_> = (0..500).map(publication).collect();
        self.broker.publish(&mut publications);
        assert!(publications.is_empty());
        for (shard, count) in [(0, 300), (1, 200)] {
            let received = self.receive(shard, count).await;
            let numbers: Vec<usize> = received.iter().map(|p| number(p.data())).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
        }
    }

    async fn delivers_to_subscribers_of_the_channel_only(&self) {
        let (wanted, other) = (name("wanted"), name("other"));
        self.join(&wanted, 0).await;
        self.publish(&other, Kind::Text, b"for nobody").await;
        self.publish(&wanted, Kind::Text, b"for shard 0").await;
        assert_eq!(self.receive(0, 1).await[0].data(), b"for shard 0");
        let mut turn = Vec::new();
        self.inboxes[1].take(&mut turn);
        assert!(turn.is_empty(), "{turn:?}");
    }

    async fn join(&self, channel: &ChannelName, shard: usize) {
        let wish = self
            .interest
            .add(channel, ShardId::new(shard), None, || self.broker.subscribe(channel));
        if let Wish::Pending(answer) = wish {
            answer.granted().await.expect("the broker is there");
        }
    }

    async fn publish(&self, channel: &ChannelName, kind: Kind, data: &[u8]) {
        let publication = Publication::new(channel.clone(), kind, Bytes::copy_from_slice(data));
        let outcome = self.ask_to_publish(publication.into()).await;
        assert_eq!(outcome, Ok(None), "it happens and has no position");
    }

    async fn ask_to_publish(&self, publish: Publish) -> PublishOutcome {
        let (reply, outcome) = oneshot::channel();
        self.broker.publish(&mut vec![(publish, ReplyTo::Caller(reply))]);
        outcome.await.expect("every publish is answered")
    }

    async fn receive(&self, shard: usize, count: usize) -> Vec<Arc<Publication>> {
        let mut received = Vec::new();
        while received.len() < count {
            self.inboxes[shard].filled().await;
            let mut turn = Vec::new();
            self.inboxes[shard].take(&mut turn);
            received.extend(turn.into_iter().filter_map(|notice| match notice {
                Notice::Publication(publication) => Some(publication),
                _ => None,
            }));
        }
        assert_eq!(received.len(), count, "nothing is delivered twice");
        received
    }
}

/// Bounds that no test of a broker reaches unless it lowers them.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        message_bytes: 1 << 20,
        inflate_ratio: 100,
        message_fragments: 256,
        message_age: Duration::from_secs(30),
        backlog_bytes: 1 << 20,
        private_bytes: 1 << 20,
        backlog_age: Duration::from_secs(10),
        connections: 100,
        inbox_publications: 100_000,
        inbox_bytes: 64 << 20,
        ring_bytes: RING_BYTES,
        history_bytes: HISTORY_BYTES,
        control_frames: Rate { per_second: 10, burst: 30 },
    }
}

fn number(data: &[u8]) -> usize {
    str::from_utf8(data).ok().and_then(|text| text.parse().ok()).expect("numbers were published")
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("the names above are valid")
}
