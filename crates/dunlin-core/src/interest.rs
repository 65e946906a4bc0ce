//! Interest: which shards of this node want which channel, and since when the broker knows.
//!
//! A channel's entry is changed under its partition's lock, and the broker is ordered about under
//! the same lock: the broker sees subscribe and unsubscribe of one channel in the order in which
//! they were decided. The same lock makes one order of deliveries: a batch is in every inbox before
//! the next batch of its channel is in any.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
    mem,
    sync::Arc,
    time::Instant,
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::watch;

use crate::{
    channel::ChannelName,
    error::{BrokerLost, PublishError, PublishOutcome},
    ids::{ConnectionId, ShardId},
    inbox::Inbox,
    limits::LINGER,
    publication::Publication,
};

/// A power of two well above the number of threads that meet here.
const PARTITIONS: usize = 64;

/// The table of channels that this node wants, shared by shards, broker and front.
pub struct Interest {
    inboxes: Box<[Arc<Inbox>]>,
    partitions: Box<[Mutex<Partition>]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Partition {
    entries: HashMap<ChannelName, Entry, RandomState>,
    /// Channels whose last subscriber left, oldest first; stale when the channel was wanted again
    /// since.
    lingering: VecDeque<(Instant, ChannelName)>,
}

struct Entry {
    shards: SmallVec<[ShardId; 4]>,
    knowledge: Knowledge,
    /// When the last subscriber left; none while there is one.
    unwanted_since: Option<Instant>,
}

impl Entry {
    /// Notes that the broker was told.
    fn order(&mut self, acknowledgement: Acknowledgement) -> Wish {
        match acknowledgement {
            Acknowledgement::Immediate => {
                self.knowledge = Knowledge::Acknowledged;
                Wish::Granted
            }
            Acknowledgement::Later => {
                let answer = watch::Sender::new(None);
                let wish = Wish::Pending(PendingWish(answer.subscribe()));
                self.knowledge = Knowledge::Ordered(answer);
                wish
            }
        }
    }
}

/// What the broker knows of our interest in a channel.
enum Knowledge {
    /// Not ordered yet, or refused: the next wish orders.
    Nothing,
    /// Ordered, not acknowledged; those who wait for it hold the other end.
    Ordered(watch::Sender<Answer>),
    /// Acknowledged: what is published from now on arrives.
    Acknowledged,
}

/// The answer to a wish for a channel.
#[must_use]
pub enum Wish {
    /// The broker knows: the subscription stands.
    Granted,
    /// The broker was asked and will answer.
    Pending(PendingWish),
}

/// A wish that the broker has not answered yet.
pub struct PendingWish(watch::Receiver<Answer>);

/// Nothing yet, or whether the subscription stands.
type Answer = Option<Result<(), BrokerLost>>;

impl PendingWish {
    /// Waits for the broker's answer. Cancel-safe.
    ///
    /// # Errors
    /// [`BrokerLost`] when the broker went away first, or refused.
    pub async fn granted(mut self) -> Result<(), BrokerLost> {
        match self.0.wait_for(Option::is_some).await {
            Ok(answer) => answer.unwrap_or(Err(BrokerLost)),
            Err(_forgotten) => Err(BrokerLost),
        }
    }
}

/// Whether a broker needs time to acknowledge a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// The subscription stands already.
    Immediate,
    /// [`Interest::acknowledge`] or [`Interest::refuse`] will be called.
    Later,
}

impl Interest {
    /// An empty table over the inboxes of the node's shards.
    #[must_use]
    pub fn new(inboxes: Vec<Arc<Inbox>>) -> Self {
        Self {
            inboxes: inboxes.into(),
            partitions: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
        }
    }

    /// Notes that `shard` wants `channel`. `subscribe` is called when the broker has to be told.
    pub fn add(
        &self,
        channel: &ChannelName,
        shard: ShardId,
        subscribe: impl FnOnce() -> Acknowledgement,
    ) -> Wish {
        let mut partition = self.partition(channel).lock();
        let entry = partition.entries.entry(channel.clone()).or_insert_with(|| Entry {
            shards: SmallVec::new(),
            knowledge: Knowledge::Nothing,
            unwanted_since: None,
        });
        entry.unwanted_since = None;
        if !entry.shards.contains(&shard) {
            entry.shards.push(shard);
        }
        match &entry.knowledge {
            Knowledge::Acknowledged => Wish::Granted,
            Knowledge::Ordered(answer) => Wish::Pending(PendingWish(answer.subscribe())),
            Knowledge::Nothing => entry.order(subscribe()),
        }
    }

    /// Notes that `shard` has no subscriber of `channel` any more. The broker is told by
    /// [`Interest::sweep`], later.
    pub fn remove(&self, channel: &ChannelName, shard: ShardId, now: Instant) {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        entry.shards.retain(|wanting| *wanting != shard);
        if entry.shards.is_empty() {
            entry.unwanted_since = Some(now);
            partition.lingering.push_back((now, channel.clone()));
        }
    }

    /// Forgets the channels nobody has wanted for [`LINGER`]; `unsubscribe` tells the broker of
    /// each.
    pub fn sweep(&self, now: Instant, unsubscribe: impl Fn(&ChannelName)) {
        for partition in &self.partitions {
            let mut partition = partition.lock();
            while let Some((since, _)) = partition.lingering.front()
                && now.saturating_duration_since(*since) >= LINGER
            {
                let Some((since, channel)) = partition.lingering.pop_front() else { break };
                let is_stale = partition
                    .entries
                    .get(&channel)
                    .is_none_or(|entry| entry.unwanted_since != Some(since));
                if !is_stale {
                    partition.entries.remove(&channel);
                    unsubscribe(&channel);
                }
            }
        }
    }

    /// Hands a batch of one channel, in its order, to every shard that wants it. Never waits: await
    /// [`Interest::room`] before there is a next batch.
    pub fn deliver(&self, channel: &ChannelName, batch: &[Arc<Publication>]) {
        let partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get(channel) else { return };
        for shard in &entry.shards {
            self.inboxes[shard.place()].push(batch);
        }
    }

    /// Tells a connection's shard that its publish failed.
    pub fn publish_failed(&self, connection: ConnectionId, error: PublishError) {
        self.inboxes[connection.shard.place()].push_failure(connection, error);
    }

    /// Tells a connection's shard how its publish command `id` ended.
    pub fn publish_answered(&self, connection: ConnectionId, id: u32, outcome: PublishOutcome) {
        self.inboxes[connection.shard.place()].push_answer(connection, id, outcome);
    }

    /// Whether every inbox can take more.
    pub fn has_room(&self) -> bool {
        self.inboxes.iter().all(|inbox| inbox.has_room())
    }

    /// Waits until every inbox can take more. Cancel-safe.
    pub async fn room(&self) {
        for inbox in &self.inboxes {
            inbox.room().await;
        }
    }

    /// The broker knows our interest in `channel` from now on.
    pub fn acknowledge(&self, channel: &ChannelName) {
        self.learn(channel, Knowledge::Acknowledged, Ok(()));
    }

    /// The broker does not let us have `channel`: whoever waits is told, and the next wish asks
    /// again.
    pub fn refuse(&self, channel: &ChannelName) {
        self.learn(channel, Knowledge::Nothing, Err(BrokerLost));
    }

    /// The broker has forgotten us: nothing is acknowledged any more, and whoever waits is told.
    pub fn lose(&self) {
        for partition in &self.partitions {
            for entry in partition.lock().entries.values_mut() {
                if let Knowledge::Ordered(answer) = &entry.knowledge {
                    answer.send_replace(Some(Err(BrokerLost)));
                }
                entry.knowledge = Knowledge::Ordered(watch::Sender::new(None));
            }
        }
    }

    /// Every channel the broker must know of, for subscribing anew after a loss.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelName> {
        let of = |partition: &Mutex<Partition>| -> Vec<ChannelName> {
            partition.lock().entries.keys().cloned().collect()
        };
        self.partitions.iter().flat_map(of).collect()
    }

    /// How many channels the broker must know of.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.partitions.iter().map(|partition| partition.lock().entries.len()).sum()
    }

    fn learn(&self, channel: &ChannelName, knowledge: Knowledge, answer: Result<(), BrokerLost>) {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        if let Knowledge::Ordered(waiting) = mem::replace(&mut entry.knowledge, knowledge) {
            waiting.send_replace(Some(answer));
        }
    }

    fn partition(&self, channel: &ChannelName) -> &Mutex<Partition> {
        let hash = self.hasher.hash_one(channel);
        // The high bits: the map inside uses the low ones of its own hash.
        &self.partitions[(hash >> 58) as usize % PARTITIONS]
    }
}

#[cfg(test)]
mod tests;
