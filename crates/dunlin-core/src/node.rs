//! The node: the one façade over interest and broker. Sessions, HTTP API and every other side door
//! call it.

use std::{sync::Arc, time::Instant};

use crate::{
    broker::{BrokerStatus, ReplyTo, SharedBroker},
    channel::ChannelName,
    error::BrokerLost,
    ids::{ConnectionId, ShardId},
    interest::{Interest, Wish},
    publication::Publication,
};

/// One running process as its shards and its front see it.
pub struct Node {
    interest: Arc<Interest>,
    broker: SharedBroker,
}

impl Node {
    /// A node that delivers through `interest` what `broker` returns.
    #[must_use]
    pub fn new(interest: Arc<Interest>, broker: SharedBroker) -> Self {
        Self { interest, broker }
    }

    /// Asks for `channel` on behalf of `shard`, whose hub must know the subscriber already.
    ///
    /// # Errors
    /// [`BrokerLost`] when the broker is away: nothing could be promised. Call [`Node::leave`] all
    /// the same.
    pub fn join(&self, channel: &ChannelName, shard: ShardId) -> Result<Wish, BrokerLost> {
        match self.broker.status() {
            BrokerStatus::Ready => {
                Ok(self.interest.add(channel, shard, || self.broker.subscribe(channel)))
            }
            BrokerStatus::Lost => Err(BrokerLost),
        }
    }

    /// Notes that the last subscriber of `channel` on `shard` left.
    pub fn leave(&self, channel: &ChannelName, shard: ShardId, now: Instant) {
        self.interest.remove(channel, shard, now);
    }

    /// Publishes; the broker returns it to every subscriber's node, this one too. Await
    /// [`Node::publish_room`] first.
    pub fn publish(&self, publication: Publication, reply: ReplyTo) {
        self.broker.publish(publication, reply);
    }

    /// Publishes what a connection sent together, in its order, and leaves the vector empty. Await
    /// [`Node::publish_room`] first.
    pub fn publish_all(&self, publications: &mut Vec<Publication>, publisher: ConnectionId) {
        self.broker.publish_all(publications, publisher);
    }

    /// Whether a publisher may go on now.
    pub fn has_publish_room(&self) -> bool {
        self.broker.has_room()
    }

    /// Waits until a publisher may go on. Cancel-safe.
    pub async fn publish_room(&self) {
        self.broker.room().await;
    }

    /// Whether the broker can carry publications now.
    pub fn broker_status(&self) -> BrokerStatus {
        self.broker.status()
    }

    /// Forgets channels that nobody has wanted for a while. Called about once a second.
    pub fn sweep(&self, now: Instant) {
        self.interest.sweep(now, |channel| self.broker.unsubscribe(channel));
    }

    /// How many channels this node is subscribed to at the broker.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.interest.channel_count()
    }
}
