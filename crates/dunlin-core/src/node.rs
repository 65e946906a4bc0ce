//! The node: the one façade over interest and broker. Sessions, HTTP API and every other side door
//! call it.

use std::{sync::Arc, time::Instant};

use crate::{
    broker::{BrokerStatus, History, HistoryQuery, Publish, Recovery, ReplyTo, Room, SharedBroker},
    channel::ChannelName,
    error::{BrokerLost, HistoryError},
    ids::{ConnectionId, ShardId},
    interest::{Entered, Interest, Wish},
    namespace::{Namespaces, Retention},
    presence::{PresenceStore, SharedPresence},
    publication::Publication,
    stream::{Gap, Resume},
};

/// How often a join starts over when the stream turns under it, before it gives up.
const JOIN_ATTEMPTS: usize = 8;

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

    /// Asks for `channel` on behalf of `shard`. Who needs no position puts its subscriber into the
    /// hub before; [`Node::join`] does more.
    ///
    /// # Errors
    /// [`BrokerLost`] when the broker is away: nothing could be promised. Call [`Node::leave`] all
    /// the same.
    pub fn want(
        &self,
        channel: &ChannelName,
        shard: ShardId,
        retention: Option<Retention>,
    ) -> Result<Wish, BrokerLost> {
        match self.broker.status() {
            BrokerStatus::Ready => {
                let subscribe = || self.broker.subscribe(channel);
                Ok(self.interest.add(channel, shard, retention, subscribe))
            }
            BrokerStatus::Lost => Err(BrokerLost),
        }
    }

    /// Makes `connection` a subscriber of `channel`: returns once its place in the channel's order
    /// is on its way to its shard as [`Notice::Joined`](crate::inbox::Notice::Joined).
    ///
    /// # Errors
    /// [`BrokerLost`] when nothing can be promised now. Call [`Node::leave`] all the same, if the
    /// shard has no other subscriber.
    pub async fn join(
        &self,
        channel: &ChannelName,
        connection: ConnectionId,
        retention: Option<Retention>,
        resume: Option<Resume>,
    ) -> Result<(), BrokerLost> {
        let mut read = None;
        for _ in 0..JOIN_ATTEMPTS {
            if let Wish::Pending(wish) = self.want(channel, connection.shard, retention)? {
                wish.granted().await?;
            }
            match self.interest.enter(channel, connection, resume, read.take().as_ref()) {
                Entered::Here => return Ok(()),
                Entered::NotGranted => {}
                Entered::Read(since) => {
                    let (Some(retention), Some(resume)) = (retention, resume) else { continue };
                    let limit = resume.limit;
                    read = Some(self.broker.recover(channel, since, limit, retention).await?);
                }
            }
        }
        Err(BrokerLost)
    }

    /// Asks the broker about gaps in streams, for ever. Several may do so side by side.
    pub async fn heal(&self) {
        loop {
            let (channel, gap) = self.interest.next_gap().await;
            match self.ask(&channel, gap).await {
                Ok(recovery) => self.interest.healed(&channel, gap, recovery),
                Err(BrokerLost) => self.interest.not_healed(channel, gap),
            }
        }
    }

    async fn ask(&self, channel: &ChannelName, gap: Gap) -> Result<Recovery, BrokerLost> {
        let retention = gap.retention;
        if let Some(since) = gap.since {
            return self.broker.recover(channel, since, retention.size, retention).await;
        }
        let query = HistoryQuery { since: None, limit: 1, is_reverse: true };
        let history = self.broker.history(channel, query, retention).await;
        // No epoch was asked for that could be wrong.
        let History { top, publications } = history.map_err(|_| BrokerLost)?;
        let is_latest = |publication: &Arc<Publication>| {
            publication.position().is_some_and(|position| position.offset == top.offset)
        };
        let publications: Vec<_> = publications.into_iter().filter(is_latest).collect();
        Ok(Recovery::Whole { base: top.offset - publications.len() as u64, top, publications })
    }

    /// Notes that the last subscriber of `channel` on `shard` left.
    pub fn leave(&self, channel: &ChannelName, shard: ShardId, now: Instant) {
        self.interest.remove(channel, shard, now);
    }

    /// Publishes; the broker returns it to every subscriber's node, this one too. Await
    /// [`Node::publish_room`] first.
    pub fn publish(&self, publish: Publish, reply: ReplyTo) {
        self.broker.publish(&mut vec![(publish, reply)]);
    }

    /// Publishes what came together, in its order, and leaves the vector empty. Await
    /// [`Node::publish_room`] first.
    pub fn publish_all(&self, publishes: &mut Vec<(Publish, ReplyTo)>) {
        self.broker.publish(publishes);
    }

    /// Forgets what this node remembers of a channel whose history was removed.
    pub fn forget(&self, channel: &ChannelName) {
        self.interest.forget(channel);
    }

    /// What a publisher has to wait for before it goes on; none = nothing. Cancel-safe.
    pub fn publish_room(&self) -> Option<Room<'_>> {
        self.broker.room()
    }

    /// Whether the broker can carry publications now.
    pub fn broker_status(&self) -> BrokerStatus {
        self.broker.status()
    }

    /// Forgets channels that nobody has wanted for a while, and looks after streams. Called about
    /// once a second; `number` counts the calls.
    pub fn sweep(&self, number: usize, now: Instant) {
        self.interest.sweep(now, |channel| self.broker.unsubscribe(channel));
        self.interest.audit(number);
    }

    /// How many channels this node is subscribed to at the broker.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.interest.channel_count()
    }
}
