//! A node with one shard, as the broker sees it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dunlin_core::{
    broker::{Broker, ReplyTo, Room, conformance},
    channel::ChannelName,
    error::PublishOutcome,
    ids::ShardId,
    inbox::{Inbox, Notice},
    interest::{Interest, Wish},
    limits::Limits,
    publication::{Kind, Publication},
};
use dunlin_redis::{
    broker::{RedisBroker, Settings, StartError},
    metrics::LinkMetrics,
};
use tokio::{sync::oneshot, time::timeout};

use crate::server::{RedisServer, wait_until};

pub(crate) type Outcome = oneshot::Receiver<PublishOutcome>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    Lost,
}

impl Status {
    pub(crate) fn of(broker: &RedisBroker) -> Self {
        if broker.outages(None).is_empty() { Self::Ready } else { Self::Lost }
    }
}

pub(crate) struct Node {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) interest: Arc<Interest>,
    pub(crate) broker: Arc<RedisBroker>,
    pub(crate) metrics: LinkMetrics,
}

impl Node {
    pub(crate) async fn start(server: &RedisServer) -> Self {
        Self::start_with(Settings::new(server.url()), 100_000).await.unwrap()
    }

    pub(crate) async fn start_with(
        settings: Settings,
        inbox_publications: usize,
    ) -> Result<Self, StartError> {
        let limits = Limits { inbox_publications, ..conformance::limits() };
        let inbox = Arc::new(Inbox::new(&limits));
        let interest = Arc::new(Interest::new(vec![Arc::clone(&inbox)]));
        let metrics = LinkMetrics::default();
        let broker = RedisBroker::start(settings, Arc::clone(&interest), metrics.clone()).await?;
        Ok(Self { inbox, interest, broker, metrics })
    }

    /// Wants a channel and waits until the subscription stands.
    pub(crate) async fn join(&self, channel: &str) {
        let wish = self.wish(channel);
        if let Wish::Pending(answer) = wish {
            let granted = timeout(Duration::from_secs(10), answer.granted()).await;
            granted.expect("the broker answers in time").expect("the broker is there");
        }
    }

    pub(crate) fn wish(&self, channel: &str) -> Wish {
        let channel = name(channel);
        self.interest.add(&channel, ShardId::new(0), None, || self.broker.subscribe(&channel))
    }

    pub(crate) fn publish(&self, channel: &str, kind: Kind, data: &[u8]) -> Outcome {
        self.publish_and_room(channel, kind, data).0
    }

    /// The same, and what a publisher has to wait for before the next.
    pub(crate) fn publish_and_room(
        &self,
        channel: &str,
        kind: Kind,
        data: &[u8],
    ) -> (Outcome, Option<Room>) {
        let (reply, outcome) = oneshot::channel();
        let publication = Publication::new(name(channel), kind, Bytes::copy_from_slice(data));
        let publish = (publication.into(), ReplyTo::Caller(reply));
        (outcome, self.broker.publish(&mut vec![publish]))
    }

    /// Publishes text that must be accepted.
    pub(crate) async fn say(&self, channel: &str, text: &str) {
        let outcome = self.publish(channel, Kind::Text, text.as_bytes());
        assert_eq!(ended(outcome).await, Ok(None), "{text}");
    }

    /// Takes publications until there are `count`, and no more than those.
    pub(crate) async fn receive(&self, count: usize) -> Vec<Arc<Publication>> {
        let mut received = Vec::new();
        while received.len() < count {
            let filled = timeout(Duration::from_secs(10), self.inbox.filled()).await;
            filled.unwrap_or_else(|_| panic!("{} of {count} arrived", received.len()));
            received.extend(self.take());
        }
        assert_eq!(received.len(), count, "nothing comes twice");
        received
    }

    pub(crate) async fn receive_texts(&self, count: usize) -> Vec<Bytes> {
        self.receive(count).await.iter().map(text).collect()
    }

    pub(crate) fn take_texts(&self) -> Vec<Bytes> {
        self.take().iter().map(text).collect()
    }

    /// Takes what has arrived.
    pub(crate) fn take(&self) -> Vec<Arc<Publication>> {
        let mut turn = Vec::new();
        self.inbox.take(&mut turn);
        let publications = turn.into_iter().filter_map(|notice| match notice {
            Notice::Publication(publication) => Some(publication),
            _ => None,
        });
        publications.collect()
    }

    /// Waits until the broker is ready, or is not.
    pub(crate) fn wait_for(&self, status: Status) {
        tokio::task::block_in_place(|| {
            wait_until("the status changes", || self.status() == status);
        });
    }

    pub(crate) fn status(&self) -> Status {
        Status::of(&self.broker)
    }
}

pub(crate) async fn ended(outcome: Outcome) -> PublishOutcome {
    let ended = timeout(Duration::from_secs(15), outcome).await;
    ended.expect("a publish is answered in time").expect("a publish is answered at all")
}

fn text(publication: &Arc<Publication>) -> Bytes {
    Bytes::copy_from_slice(publication.data())
}

pub(crate) fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).unwrap()
}
