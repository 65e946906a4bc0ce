//! A part of the channels that the memory broker keeps something of.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    mem,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use super::{answers::Answers, stream::Stream};
use crate::channel::ChannelName;

/// Calls after which a partition throws away what is over.
const CALLS_PER_SWEEP: usize = 4096;

/// Counters of forgotten channels.
const FORGOTTEN: usize = 256;

/// Channels, and how publishes to them were answered.
pub(super) struct Partition {
    streams: HashMap<ChannelName, Stream>,
    pub(super) answers: Answers,
    /// Channels in the order in which they are looked at when room is wanted; those that are gone
    /// are passed over.
    order: VecDeque<ChannelName>,
    /// How many channels were forgotten, by a part of their names' hash. The epoch of a channel is
    /// made of its name and this, so that nothing is kept of those that nothing was published to,
    /// and no epoch comes twice.
    forgotten: [u64; FORGOTTEN],
    stream_bytes: usize,
    /// What of all bytes is in the account of the broker.
    settled_bytes: usize,
    /// Calls since what is over was thrown away.
    calls: usize,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            streams: HashMap::new(),
            answers: Answers::default(),
            order: VecDeque::new(),
            forgotten: [0; FORGOTTEN],
            stream_bytes: 0,
            settled_bytes: 0,
            calls: 0,
        }
    }
}

impl Partition {
    /// Runs `look` on the channel's stream without what is over.
    pub(super) fn look<T>(
        &mut self,
        hasher: &RandomState,
        channel: &ChannelName,
        now: Instant,
        look: impl FnOnce(&Stream) -> T,
    ) -> T {
        self.expire(channel, now);
        match self.streams.get(channel) {
            Some(stream) => look(stream),
            None => look(&Stream::new(self.epoch(hasher, channel), now)),
        }
    }

    /// Runs `write` on the channel's stream without what is over.
    pub(super) fn write<T>(
        &mut self,
        hasher: &RandomState,
        channel: &ChannelName,
        now: Instant,
        write: impl FnOnce(&mut Stream) -> T,
    ) -> T {
        self.expire(channel, now);
        let epoch = self.epoch(hasher, channel);
        let Self { streams, order, stream_bytes, .. } = self;
        let stream = streams.entry(channel.clone()).or_insert_with(|| {
            let new = Stream::new(epoch, now);
            *stream_bytes += new.bytes();
            new
        });
        if !mem::replace(&mut stream.is_in_order, true) {
            order.push_back(channel.clone());
        }
        *stream_bytes -= stream.bytes();
        let written = write(stream);
        *stream_bytes += stream.bytes();
        self.clear_out();
        written
    }

    /// Throws away what is over of a channel, and the channel if it is.
    fn expire(&mut self, channel: &ChannelName, now: Instant) {
        let Some(stream) = self.streams.get_mut(channel) else { return };
        self.stream_bytes -= stream.bytes();
        stream.expire(now);
        if stream.is_over(now) {
            self.streams.remove(channel);
            self.forgotten[counter(channel)] += 1;
        } else {
            self.stream_bytes += stream.bytes();
        }
    }

    fn epoch(&self, hasher: &RandomState, channel: &ChannelName) -> u64 {
        hasher.hash_one((channel, self.forgotten[counter(channel)]))
    }

    pub(super) fn forget_history(&mut self, channel: &ChannelName) {
        if let Some(stream) = self.streams.get_mut(channel) {
            self.stream_bytes -= stream.bytes();
            stream.forget();
            self.stream_bytes += stream.bytes();
        }
    }

    /// Makes some room, and says whether there was something to let go of: the answer that is
    /// oldest, and of the channel that was published to longest ago what is kept, or its position
    /// if it keeps nothing else.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let had_answer = self.answers.drop_oldest();
        for _ in 0..self.order.len() {
            let Some(channel) = self.order.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(&channel) else { continue };
            if mem::take(&mut stream.was_published) {
                self.order.push_back(channel);
                continue;
            }
            self.stream_bytes -= stream.bytes();
            if stream.forget() {
                self.stream_bytes += stream.bytes();
                self.order.push_back(channel);
            } else {
                self.streams.remove(&channel);
                self.forgotten[counter(&channel)] += 1;
            }
            return true;
        }
        had_answer
    }

    /// Brings what it takes into the account of the broker.
    pub(super) fn settle(&mut self, account: &AtomicUsize) {
        let is = self.stream_bytes + self.answers.bytes();
        let was = mem::replace(&mut self.settled_bytes, is);
        match is.checked_sub(was) {
            Some(more) => account.fetch_add(more, Ordering::Relaxed),
            None => account.fetch_sub(was - is, Ordering::Relaxed),
        };
    }

    /// Throws away all that is over, once in a while.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.answers.expire(now);
        self.calls += 1;
        if !self.calls.is_multiple_of(CALLS_PER_SWEEP) {
            return;
        }
        let Self { streams, forgotten, .. } = self;
        streams.retain(|channel, stream| {
            stream.expire(now);
            let is_over = stream.is_over(now);
            forgotten[counter(channel)] += u64::from(is_over);
            !is_over
        });
        self.stream_bytes = streams.values().map(Stream::bytes).sum();
        self.clear_out();
    }

    /// Throws out of the order what channels left in it that are no more.
    fn clear_out(&mut self) {
        let Self { streams, order, .. } = self;
        if order.len() <= 2 * streams.len() + 64 {
            return;
        }
        order.retain(|channel| {
            streams.get_mut(channel).is_some_and(|stream| mem::take(&mut stream.is_in_order))
        });
        for channel in order {
            if let Some(stream) = streams.get_mut(channel) {
                stream.is_in_order = true;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.order.is_empty()
    }

    #[cfg(test)]
    pub(super) fn order_len(&self) -> usize {
        self.order.len()
    }
}

/// The counter of a channel.
fn counter(channel: &ChannelName) -> usize {
    // Any spread will do, as long as it stays the same.
    channel
        .as_str()
        .bytes()
        .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
        % FORGOTTEN
}
