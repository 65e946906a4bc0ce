//! The node: the one façade over interest and broker. Sessions, HTTP API and every other side door
//! call it.

mod reads;

use std::{sync::Arc, time::Instant};

use self::reads::{Reads, Shared};
use crate::{
    broker::{History, HistoryQuery, Outage, Publish, Recovery, ReplyTo, Room, SharedBroker},
    channel::ChannelName,
    error::{BrokerLost, HistoryError},
    history::{PAGE_BYTES, PAGE_PUBLICATIONS, PageBounds, Since},
    ids::{ConnectionId, ShardId},
    interest::{Entered, Interest, Question, Wish},
    namespace::{Namespaces, Retention},
    position::Position,
    presence::{PresenceStore, SharedPresence},
    stream::{Ask, Gap, Resume},
};

/// How often a join starts over when the stream turns under it, before it gives up.
const JOIN_ATTEMPTS: usize = 8;

/// The most that one client is told at once of what it missed; who missed more begins anew.
const RECOVERY_BYTES_MAX: usize = 32 << 20;

/// The most of a history that is told at once; who wants more asks behind it.
pub const HISTORY_BYTES_MAX: usize = 32 << 20;

/// One running process as its shards and its front see it.
pub struct Node {
    interest: Arc<Interest>,
    broker: SharedBroker,
    presence: SharedPresence,
    namespaces: Arc<Namespaces>,
    reads: Reads,
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
        Self { interest, broker, presence, namespaces, reads: Reads::default() }
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

    /// A part of what is kept of `channel`, less than asked for where that is more than
    /// [`HISTORY_BYTES_MAX`].
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn history(
        &self,
        channel: &ChannelName,
        mut query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, HistoryError> {
        let mut all = self.broker.history(channel, query, retention).await?;
        let mut bytes = 0;
        let mut found = all.publications.len();
        loop {
            let page = &all.publications[all.publications.len() - found..];
            let of_page: usize = page.iter().map(|publication| publication.data().len()).sum();
            let end = page.last().and_then(|last| last.position()).map(|end| end.offset);
            bytes += of_page;
            query.limit -= found.min(query.limit);
            let is_last = found < PAGE_PUBLICATIONS && of_page < PAGE_BYTES;
            if is_last || query.limit == 0 || bytes > HISTORY_BYTES_MAX {
                return Ok(all);
            }
            let Some(end) = end else { return Ok(all) };
            query.since = Some(Since { offset: end, epoch: None });
            let next = self.broker.history(channel, query, retention).await?;
            if next.top.epoch.id != all.top.epoch.id {
                // Another past has begun: what follows is no part of this one.
                return Ok(all);
            }
            found = next.publications.len();
            all.publications.extend(next.publications);
        }
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
        if !self.broker.outages(Some(channel)).is_empty() {
            return Err(BrokerLost);
        }
        let subscribe = || self.broker.subscribe(channel);
        Ok(self.interest.add(channel, shard, retention, subscribe))
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
        let mut read: Option<Arc<Shared>> = None;
        for _ in 0..JOIN_ATTEMPTS {
            if let Wish::Pending(wish) = self.want(channel, connection.shard, retention)? {
                wish.granted().await?;
            }
            let answer = read.as_ref().map(|shared| &shared.read);
            match self.interest.enter(channel, connection, resume, answer) {
                Entered::Here => return Ok(()),
                Entered::NotGranted => read = None,
                Entered::Read(since) => {
                    let (Some(retention), Some(resume)) = (retention, resume) else { continue };
                    let since = read.map_or(since, |shared| shared.for_all_behind(since));
                    let ask = |since| self.recover_all(channel, since, resume.limit, retention);
                    read = Some(self.reads.read(channel, since, ask).await?);
                }
            }
        }
        Err(BrokerLost)
    }

    /// Everything behind `since`, page by page; lost where that is more than `limit` publications
    /// or [`RECOVERY_BYTES_MAX`].
    async fn recover_all(
        &self,
        channel: &ChannelName,
        since: Position,
        limit: usize,
        retention: Retention,
    ) -> Result<Recovery, BrokerLost> {
        let bounds = PageBounds::new(limit.max(1), PAGE_BYTES);
        let (mut all, mut bytes, mut oldest_ttl) = (Vec::new(), 0, None);
        let mut end = since;
        loop {
            let recovery = self.broker.recover(channel, end, bounds, retention).await?;
            let Recovery::Page { top, mut publications, ttl } = recovery else {
                return Ok(recovery);
            };
            bytes += publications.iter().map(|it| it.data().len()).sum::<usize>();
            let offset = publications.last().and_then(|last| last.position()).map(|it| it.offset);
            let is_more = offset.is_some_and(|offset| offset < top.offset);
            all.append(&mut publications);
            let ttl = *oldest_ttl.get_or_insert(ttl);
            if !is_more {
                return Ok(Recovery::Page { top, publications: all, ttl });
            }
            if all.len() >= limit || bytes > RECOVERY_BYTES_MAX {
                return Ok(Recovery::Lost { top });
            }
            end = Position { offset: offset.unwrap_or(end.offset), epoch: top.epoch };
        }
    }

    /// Puts questions about streams to the broker, for ever. [`HEALERS`](crate::interest::HEALERS)
    /// tasks do so side by side.
    pub async fn heal(&self) {
        loop {
            match self.interest.next_question().await {
                Question::Positions(asked) => self.locate(asked).await,
                Question::Audit(asked) => {
                    self.locate(asked).await;
                    self.interest.end_audit();
                }
                Question::Page(channel, gap) => self.read_page(channel, gap).await,
            }
        }
    }

    async fn locate(&self, asked: Vec<(ChannelName, Gap)>) {
        let channels: Vec<_> =
            asked.iter().map(|(channel, gap)| (channel.clone(), gap.retention)).collect();
        let positions = self.broker.positions(&channels).await;
        for ((channel, gap), position) in asked.into_iter().zip(positions) {
            match position {
                Some(position) => self.interest.located(&channel, gap, position),
                None => self.interest.not_answered(channel, gap),
            }
        }
    }

    async fn read_page(&self, channel: ChannelName, gap: Gap) {
        let Ask::Page { since, bytes } = gap.ask else { return };
        // What was read before is taken first: pages must not pile up in front of the shards.
        self.interest.room().await;
        let bounds = PageBounds::new(usize::MAX, bytes);
        match self.broker.recover(&channel, since, bounds, gap.retention).await {
            Ok(recovery) => self.interest.healed(&channel, gap, recovery),
            Err(BrokerLost) => self.interest.not_answered(channel, gap),
        }
    }

    /// Notes that the last subscriber of `channel` on `shard` left.
    pub fn leave(&self, channel: &ChannelName, shard: ShardId, now: Instant) {
        self.interest.remove(channel, shard, now);
    }

    /// Publishes; the broker returns it to every subscriber's node, this one too. Returns what the
    /// publisher has to wait for before it goes on.
    pub fn publish(&self, publish: Publish, reply: ReplyTo) -> Option<Room> {
        self.broker.publish(&mut vec![(publish, reply)])
    }

    /// Publishes what came together, in its order, and leaves the vector empty. Returns what the
    /// publisher has to wait for before it goes on.
    pub fn publish_all(&self, publishes: &mut Vec<(Publish, ReplyTo)>) -> Option<Room> {
        self.broker.publish(publishes)
    }

    /// Forgets what this node remembers of a channel whose history was removed.
    pub fn forget(&self, channel: &ChannelName) {
        self.interest.forget(channel);
    }

    /// The same for all channels: it may have missed that a history was removed.
    pub fn forget_all(&self) {
        self.interest.forget_all();
    }

    /// What keeps the broker from carrying publications now; nothing = it is ready.
    pub fn outages(&self) -> Vec<Outage> {
        self.broker.outages(None)
    }

    /// Forgets channels that nobody has wanted for a while, and looks after streams. Called about
    /// once a second; `number` counts the calls.
    pub fn sweep(&self, number: usize, now: Instant) {
        self.interest.sweep(now, |channel| self.broker.unsubscribe(channel));
        self.interest.audit(number, now);
    }

    /// How many channels this node is subscribed to at the broker.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.interest.channel_count()
    }
}
