//! The node: the one façade over interest and broker. Sessions, HTTP API and every other side door
//! call it.

use std::{sync::Arc, time::Instant};

use crate::{
    broker::{BrokerStatus, History, HistoryQuery, Publish, ReplyTo, SharedBroker},
    channel::ChannelName,
    error::{BrokerLost, HistoryError},
    ids::{ConnectionId, ShardId},
    interest::{Interest, Wish},
    namespace::{Namespaces, Retention},
    presence::{PresenceStore, SharedPresence},
};

/// One running process as its shards and its front see it.
pub struct Node {
    interest: Arc<Interest>,
    broker: SharedBroker,
    presence: SharedPresence,
    namespaces: Arc<Namespaces>,
}

impl Node {
    /// A node that delivers through `interest` what `broker` returns.
    #[must_use]
    pub fn new(
        interest: Arc<Interest>,
        broker: SharedBroker,
        presence: SharedPresence,
        namespaces: Arc<Namespaces>,
    ) -> Self {
        Self { interest, broker, presence, namespaces }
    }

    /// The options of every channel there can be.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Who is in which channel, on all nodes.
    #[must_use]
    pub fn presence(&self) -> &dyn PresenceStore {
        &*self.presence
    }

    /// A part of what is kept of `channel`.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, HistoryError> {
        self.broker.history(channel, query, retention).await
    }

    /// Forgets what was published in `channel`; its position stays.
    ///
    /// # Errors
    /// [`BrokerLost`] when it may not have happened.
    pub async fn remove_history(&self, channel: &ChannelName) -> Result<(), BrokerLost> {
        self.broker.remove_history(channel).await
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
    pub fn publish(&self, publish: Publish, reply: ReplyTo) {
        self.broker.publish(publish, reply);
    }

    /// Publishes what a connection sent together, in its order, and leaves the vector empty. Await
    /// [`Node::publish_room`] first.
    pub fn publish_all(&self, publishes: &mut Vec<Publish>, publisher: ConnectionId) {
        self.broker.publish_all(publishes, publisher);
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
