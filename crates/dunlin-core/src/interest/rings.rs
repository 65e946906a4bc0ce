//! One account for what the streams of a node remember.
//!
//! When it is full, rings are dropped in the order in which they began, but those to whose channel
//! somebody came back since they were last looked at get another turn (second chance): that is near
//! to least recently used, and costs a delivery no more than an addition. Publishing is no use: a
//! channel that nobody comes back to may well be the busiest.

use std::{
    collections::VecDeque,
    mem,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{Lock, Partition, entry::Entry};
use crate::channel::ChannelName;

/// How much is kept, and how much may be.
pub(super) struct Rings {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// What became of the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Change {
    /// Whether the ring has begun.
    has_begun: bool,
    /// Whether there is more than may be.
    is_over: bool,
}

impl Rings {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), bytes_max }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Brings what an entry keeps into the account.
    pub(super) fn settle(&self, entry: &mut Entry) -> Change {
        let is = entry.stream.as_ref().map_or(0, |stream| stream.kept_bytes());
        let was = mem::replace(&mut entry.ring_bytes, is);
        let bytes = match is.checked_sub(was) {
            Some(0) => return Change::default(),
            Some(more) => self.bytes.fetch_add(more, Ordering::Relaxed) + more,
            None => self.bytes.fetch_sub(was - is, Ordering::Relaxed) - (was - is),
        };
        let has_begun = is > 0 && !entry.is_in_order;
        entry.is_in_order |= has_begun;
        Change { has_begun, is_over: bytes > self.bytes_max }
    }

    /// Takes an entry out of the account that is no more.
    pub(super) fn close(&self, entry: &Entry) {
        self.bytes.fetch_sub(entry.ring_bytes, Ordering::Relaxed);
    }

    /// Makes room if there has to be.
    #[inline]
    pub(super) fn follow(&self, partition: &mut Partition, channel: &ChannelName, change: Change) {
        if change != Change::default() {
            self.make_up_for(partition, channel, change);
        }
    }

    fn make_up_for(&self, partition: &mut Partition, channel: &ChannelName, change: Change) {
        if change.has_begun {
            partition.rings.push_back(channel.clone());
            clear_out(partition);
        }
        if change.is_over {
            self.shrink(partition, self.bytes_max);
        }
    }

    /// Drops rings of a partition until the node has no more than `bytes`.
    fn shrink(&self, partition: &mut Partition, bytes: usize) {
        while self.bytes() > bytes && self.drop_one(partition) {}
    }

    /// Drops a ring, and says whether there was one.
    fn drop_one(&self, partition: &mut Partition) -> bool {
        let Partition { entries, rings, .. } = partition;
        while let Some(channel) = rings.pop_front() {
            let Some(entry) = entries.get_mut(&channel) else { continue };
            if mem::take(&mut entry.was_resumed) {
                rings.push_back(channel);
                continue;
            }
            entry.is_in_order = false;
            if let Some(stream) = entry.stream.as_mut().filter(|_| entry.ring_bytes > 0) {
                stream.forget();
                let _smaller = self.settle(entry);
                return true;
            }
        }
        false
    }

    /// Makes some room beforehand, at the cost of all partitions: or those that have nothing to
    /// drop could keep nothing, while others are full of what nobody wants any more.
    pub(super) fn make_room(&self, partitions: &[Lock], first: usize) {
        let enough = self.bytes_max - self.bytes_max / 8;
        while self.bytes() > enough {
            let mut has_dropped = false;
            for number in 0..partitions.len() {
                let partition = &partitions[(first + number) % partitions.len()];
                has_dropped |= self.drop_one(&mut partition.lock());
            }
            if !has_dropped {
                return;
            }
        }
    }
}

/// Throws out of the order what channels left in it that are no more.
fn clear_out(partition: &mut Partition) {
    let Partition { entries, rings, .. } = partition;
    if rings.len() <= 2 * entries.len() + 64 {
        return;
    }
    rings.retain(|channel| {
        entries.get_mut(channel).is_some_and(|entry| mem::take(&mut entry.is_in_order))
    });
    for channel in rings {
        if let Some(entry) = entries.get_mut(channel) {
            entry.is_in_order = true;
        }
    }
}

/// Channels that remember something, in the order in which the rings are to be looked at; those
/// that remember nothing any more are passed over.
pub(super) type Order = VecDeque<ChannelName>;
