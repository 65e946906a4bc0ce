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
mod knowledge;
mod questions;
mod rings;

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;

use self::{
    entry::{Entry, Knowledge},
    heals::Heals,
    rings::Rings,
};
pub use self::{
    entry::{PendingWish, Wish},
    heals::{HEALERS, Question},
};
use crate::{
    channel::ChannelName,
    error::{PublishError, PublishOutcome},
    ids::{ConnectionId, ShardId},
    inbox::{Inbox, Joined},
    limits::{LINGER, RING_BYTES},
    namespace::Retention,
    position::Position,
    publication::Publication,
    stream::{Begin, Flow, Read, Resume, Snapshot, Turn},
};

/// A power of two well above the number of threads that meet here.
const PARTITIONS: usize = 64;

/// The table of channels that this node wants, shared by shards, broker and front.
pub struct Interest {
    inboxes: Box<[Arc<Inbox>]>,
    partitions: Box<[Lock]>,
    hasher: RandomState,
    heals: Heals,
    rings: Rings,
    /// Channels ever wanted; numbers them.
    numbers: AtomicU64,
}

#[derive(Default)]
struct Partition {
    entries: HashMap<ChannelName, Entry, RandomState>,
    /// Channels whose last subscriber left, oldest first; stale when the channel was wanted again
    /// since.
    lingering: VecDeque<(Instant, ChannelName)>,
    rings: rings::Order,
}

type Lock = Mutex<Partition>;

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
            rings: Rings::new(RING_BYTES),
            numbers: AtomicU64::new(0),
        }
    }

    /// The same with another bound than [`RING_BYTES`] for what its streams remember.
    #[must_use]
    pub fn with_ring_bytes(self, bytes_max: usize) -> Self {
        Self { rings: Rings::new(bytes_max), ..self }
    }

    /// About how many bytes its streams remember.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.rings.bytes()
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
            let unique = self.numbers.fetch_add(1, Ordering::Relaxed);
            // Never 0, which the Centrifuge protocol would leave out.
            let number = (unique % u64::from(u32::MAX)) as u32 + 1;
            Entry::new(retention, number, unique)
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
    /// [`Entered::Read`], or to somebody else's.
    pub fn enter(
        &self,
        channel: &ChannelName,
        connection: ConnectionId,
        resume: Option<Resume>,
        read: Option<&Read>,
    ) -> Entered {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return Entered::NotGranted };
        if !matches!(entry.knowledge, Knowledge::Acknowledged) {
            return Entered::NotGranted;
        }
        let now = Instant::now();
        let snapshot = match entry.stream.as_mut().map(|stream| stream.begin(resume, read, now)) {
            None => Snapshot::default(),
            Some(Some(Begin::At(snapshot))) => snapshot,
            Some(Some(Begin::Read(since))) => return Entered::Read(since),
            Some(Some(Begin::Heal(gap))) => {
                self.ask(channel, entry, gap, now);
                return Entered::NotGranted;
            }
            Some(None) => return Entered::NotGranted,
        };
        entry.was_resumed |= resume.is_some();
        let change = self.rings.settle(entry);
        entry.want(connection.shard);
        let number = entry.number;
        self.inboxes[connection.shard.place()].push_joined(Joined {
            connection,
            channel: channel.clone(),
            number,
            snapshot,
        });
        self.rings.follow(&mut partition, channel, change);
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
                    if let Some(entry) = partition.entries.remove(&channel) {
                        self.rings.close(&entry);
                    }
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
        let now = Instant::now();
        let mut through = SmallVec::<[_; 8]>::new();
        let flow = stream.take(batch, now, &mut through);
        self.push(&entry.shards, &through);
        if let Flow::Stopped(gap) = flow {
            self.ask(channel, entry, gap, now);
        }
        let change = self.rings.settle(entry);
        self.rings.follow(&mut partition, channel, change);
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

    /// Forgets the publications that the stream of `channel` remembers; its position stays.
    pub fn forget(&self, channel: &ChannelName) {
        let mut partition = self.partition(channel).lock();
        if let Some(entry) = partition.entries.get_mut(channel) {
            self.forget_ring(entry);
        }
    }

    fn forget_ring(&self, entry: &mut Entry) {
        if let Some(stream) = &mut entry.stream {
            stream.forget();
            let _smaller = self.rings.settle(entry);
        }
    }

    /// The same for all channels: any history may have been removed.
    pub fn forget_all(&self) {
        for partition in &self.partitions {
            partition.lock().entries.values_mut().for_each(|entry| self.forget_ring(entry));
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

    /// Those of these channels that the broker must know of, for subscribing anew after a loss.
    /// Those that were wanted most come first, for that is where most subscribers wait.
    #[must_use]
    pub fn channels(&self, is_wanted: &dyn Fn(&ChannelName) -> bool) -> Vec<ChannelName> {
        let of = |lock: &Lock| -> Vec<(u64, ChannelName)> {
            let partition = lock.lock();
            let wanted = partition.entries.iter().filter(|(channel, _)| is_wanted(channel));
            wanted.map(|(channel, entry)| (entry.wishes, channel.clone())).collect()
        };
        let mut channels: Vec<_> = self.partitions.iter().flat_map(of).collect();
        channels.sort_unstable_by_key(|(wishes, _)| Reverse(*wishes));
        channels.into_iter().map(|(_, channel)| channel).collect()
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
