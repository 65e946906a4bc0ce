//! Interest: which shards of this node want which channel, and since when the broker knows; and the
//! stream of each such channel that keeps its publications.
//!
//! A channel's entry is changed under its partition's lock, and the broker is ordered about under
//! the same lock: the broker sees subscribe and unsubscribe of one channel in the order in which
//! they were decided. The same lock makes one order of deliveries: a batch is in every inbox before
//! the next batch of its channel is in any. And a subscriber that begins is in the inbox of its
//! shard at its place in that order: so nobody has to buffer for it.

mod entry;
mod heals;

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::watch;

pub use self::entry::{PendingWish, Wish};
use self::{
    entry::{Entry, Knowledge},
    heals::Heals,
};
use crate::{
    channel::ChannelName,
    error::{BrokerLost, PublishError, PublishOutcome},
    history::Recovery,
    ids::{ConnectionId, ShardId},
    inbox::{Inbox, Joined},
    limits::LINGER,
    namespace::Retention,
    position::Position,
    publication::Publication,
    stream::{Begin, Flow, Gap, Resume, Snapshot, Turn},
};

/// A power of two well above the number of threads that meet here.
const PARTITIONS: usize = 64;

/// The table of channels that this node wants, shared by shards, broker and front.
pub struct Interest {
    inboxes: Box<[Arc<Inbox>]>,
    partitions: Box<[Mutex<Partition>]>,
    hasher: RandomState,
    heals: Heals,
    /// Channels ever wanted; numbers them.
    numbers: AtomicU32,
}

#[derive(Default)]
struct Partition {
    entries: HashMap<ChannelName, Entry, RandomState>,
    /// Channels whose last subscriber left, oldest first; stale when the channel was wanted again
    /// since.
    lingering: VecDeque<(Instant, ChannelName)>,
}

/// Whether a subscriber began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Entered {
    /// Its notice is on its way.
    Here,
    /// Ask for the channel, and wait for the answer, first.
    NotGranted,
    /// Ask the broker for everything behind this position first.
    Read(Position),
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
            heals: Heals::default(),
            numbers: AtomicU32::new(0),
        }
    }

    /// Notes that `shard` wants `channel`, of which the broker keeps what `retention` says.
    /// `subscribe` is called when the broker has to be told.
    pub fn add(
        &self,
        channel: &ChannelName,
        shard: ShardId,
        retention: Option<Retention>,
        subscribe: impl FnOnce() -> Acknowledgement,
    ) -> Wish {
        let mut partition = self.partition(channel).lock();
        let new = || {
            // Never 0, which the Centrifuge protocol would leave out.
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            Entry::new(retention, number.wrapping_add(1).max(1))
        };
        let entry = partition.entries.entry(channel.clone()).or_insert_with(new);
        entry.want(shard);
        match &entry.knowledge {
            Knowledge::Acknowledged => return Wish::Granted,
            Knowledge::Ordered(_) => {}
            Knowledge::Nothing => {
                let acknowledgement = subscribe();
                if acknowledgement == Acknowledgement::Immediate && entry.stream.is_none() {
                    entry.knowledge = Knowledge::Acknowledged;
                    return Wish::Granted;
                }
                let wish = entry.hold();
                if acknowledgement == Acknowledgement::Immediate {
                    self.heal(channel, entry);
                }
                return Wish::Pending(wish);
            }
        }
        Wish::Pending(entry.hold())
    }

    /// Lets a subscriber of a channel that was granted begin: a notice in the inbox of its shard,
    /// at its place in the channel's order. `read` is what the broker answered to the last
    /// [`Entered::Read`].
    pub fn enter(
        &self,
        channel: &ChannelName,
        connection: ConnectionId,
        resume: Option<Resume>,
        read: Option<&Recovery>,
    ) -> Entered {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return Entered::NotGranted };
        if !matches!(entry.knowledge, Knowledge::Acknowledged) {
            return Entered::NotGranted;
        }
        let snapshot = match entry.stream.as_mut().map(|stream| stream.begin(resume, read)) {
            None => Snapshot::default(),
            Some(Some(Begin::At(snapshot))) => snapshot,
            Some(Some(Begin::Read(since))) => return Entered::Read(since),
            Some(Some(Begin::Heal(gap))) => {
                entry.hold();
                self.heals.push(channel, gap);
                return Entered::NotGranted;
            }
            Some(None) => return Entered::NotGranted,
        };
        entry.want(connection.shard);
        let number = entry.number;
        self.inboxes[connection.shard.place()].push_joined(Joined {
            connection,
            channel: channel.clone(),
            number,
            snapshot,
        });
        Entered::Here
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
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        let Some(stream) = &mut entry.stream else {
            return self.push(&entry.shards, batch);
        };
        let mut through = SmallVec::<[_; 8]>::new();
        let flow = stream.take(batch, &mut through);
        self.push(&entry.shards, &through);
        if let Flow::Stopped(gap) = flow {
            entry.hold();
            self.heals.push(channel, gap);
        }
    }

    fn push(&self, shards: &[ShardId], batch: &[Arc<Publication>]) {
        if !batch.is_empty() {
            for shard in shards {
                self.inboxes[shard.place()].push(batch);
            }
        }
    }

    fn push_turn(&self, shards: &[ShardId], channel: &ChannelName, turn: Turn) {
        for shard in shards {
            self.inboxes[shard.place()].push_turn(channel, turn);
        }
    }

    /// Waits for the next gap that the broker has to be asked about. Cancel-safe.
    pub async fn next_gap(&self) -> (ChannelName, Gap) {
        self.heals.next().await
    }

    /// The broker's answer about a gap.
    pub fn healed(&self, channel: &ChannelName, gap: Gap, recovery: Recovery) {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        let Some(stream) = &mut entry.stream else { return };
        let Some(healed) = stream.healed(gap, recovery) else { return };
        if healed.turn != Turn::None {
            self.push_turn(&entry.shards, channel, healed.turn);
        }
        self.push(&entry.shards, &healed.through);
        match healed.flow {
            Flow::On => entry.grant(),
            Flow::Stopped(gap) => self.heals.push(channel, gap),
        }
    }

    /// The broker could not be asked about a gap: [`Interest::audit`] has it asked again.
    pub fn not_healed(&self, channel: ChannelName, gap: Gap) {
        self.heals.postpone(channel, gap);
    }

    /// Forgets the publications that the stream of `channel` remembers; its position stays.
    pub fn forget(&self, channel: &ChannelName) {
        let mut partition = self.partition(channel).lock();
        let entry = partition.entries.get_mut(channel);
        if let Some(stream) = entry.and_then(|entry| entry.stream.as_mut()) {
            stream.forget();
        }
    }

    /// Asks anew about gaps that could not be healed, and whether channels that have been silent
    /// for a minute or so should have been. Called about once a second.
    pub fn audit(&self, number: usize) {
        self.heals.resume();
        let mut partition = self.partitions[number % PARTITIONS].lock();
        for (channel, entry) in &mut partition.entries {
            if entry.stream.as_mut().is_some_and(|stream| stream.has_been_idle()) {
                self.heal(channel, entry);
            }
        }
    }

    /// Stops an entry's stream, if it has one, until the broker has said where it is.
    fn heal(&self, channel: &ChannelName, entry: &mut Entry) {
        if let Some(stream) = &mut entry.stream {
            let gap = stream.stop();
            entry.hold();
            self.heals.push(channel, gap);
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

    /// The broker knows our interest in `channel` from now on. A stream is healed first: what was
    /// published before may be missing.
    pub fn acknowledge(&self, channel: &ChannelName) {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        match entry.stream {
            Some(_) => self.heal(channel, entry),
            None => entry.grant(),
        }
    }

    /// The broker does not let us have `channel`: whoever waits is told, and the next wish asks
    /// again. Subscribers from before a loss would hear nothing any more, and are told too.
    pub fn refuse(&self, channel: &ChannelName) {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        if entry.stream.is_some() {
            self.push_turn(&entry.shards, channel, Turn::Lost);
        }
        if let Knowledge::Ordered(waiting) = mem::replace(&mut entry.knowledge, Knowledge::Nothing)
        {
            waiting.send_replace(Some(Err(BrokerLost)));
        }
    }

    /// The broker has forgotten us: nothing is acknowledged any more, and whoever waits is told.
    pub fn lose(&self) {
        for partition in &self.partitions {
            for entry in partition.lock().entries.values_mut() {
                if let Knowledge::Ordered(answer) = &entry.knowledge {
                    answer.send_replace(Some(Err(BrokerLost)));
                }
                entry.knowledge = Knowledge::Ordered(watch::Sender::new(None));
                if let Some(stream) = &mut entry.stream {
                    stream.stop();
                }
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

    fn partition(&self, channel: &ChannelName) -> &Mutex<Partition> {
        let hash = self.hasher.hash_one(channel);
        // The high bits: the map inside uses the low ones of its own hash.
        &self.partitions[(hash >> 58) as usize % PARTITIONS]
    }
}

#[cfg(test)]
mod tests;
