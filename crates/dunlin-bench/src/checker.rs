//! Judges every delivery: lost, twice, out of order, or right. One agreed order per channel is
//! built from what subscribers see; a right delivery costs one comparison at the subscriber's
//! place in it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// What was wrong, counted in deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Arrived a second time.
    pub(crate) duplicated: u64,
    /// Arrived after something that others, or its own publisher, have behind it.
    pub(crate) out_of_order: u64,
    /// Arrived on a channel it was not published to, or was never published.
    pub(crate) misrouted: u64,
}

/// The judge of one process: all its subscribers and the channels they are on.
pub(crate) struct Checker {
    channels: Vec<Order>,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    settled: Vec<u32>,
    faults: Faults,
}

/// The agreed order of one channel, from the oldest message that somebody still waits for.
#[derive(Default)]
struct Order {
    entries: VecDeque<Entry>,
    /// The place of the first entry, counted from the start of the run.
    first: u64,
    subscribers: u32,
    /// A hash of all that left the front: equal in two processes that saw the same order.
    digest: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    message: Message,
    /// Subscribers that neither got the message nor were seen to miss it.
    waiting: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Message {
    publisher: u32,
    sequence: u32,
}

struct Subscriber {
    channel: u32,
    present: bool,
    /// How much of the agreed order is behind this subscriber.
    place: u64,
    /// What it jumped over: lost, unless it still comes (then it is out of order).
    missed: Vec<Message>,
}

#[derive(Default)]
struct Publisher {
    channel: u32,
    /// The lowest sequence number above all that anybody has seen.
    unseen: u32,
    /// Numbers below `unseen` that nobody has seen.
    overtaken: Vec<u32>,
}

impl Checker {
    /// `subscribers` and `publishers` name the channel of each, below `channels`.
    pub(crate) fn new(channels: usize, subscribers: &[u32], publishers: &[u32]) -> Self {
        let mut orders: Vec<Order> = (0..channels).map(|_| Order::default()).collect();
        for &channel in subscribers {
            orders[channel as usize].subscribers += 1;
        }
        let subscriber =
            |&channel: &u32| Subscriber { channel, present: true, place: 0, missed: Vec::new() };
        Self {
            channels: orders,
            subscribers: subscribers.iter().map(subscriber).collect(),
            publishers: publishers
                .iter()
                .map(|&channel| Publisher { channel, ..Publisher::default() })
                .collect(),
            settled: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// Judges one delivery.
    #[inline]
    pub(crate) fn deliver(&mut self, subscriber: usize, publisher: u32, sequence: u32) {
        let message = Message { publisher, sequence };
        let reader = &mut self.subscribers[subscriber];
        let order = &mut self.channels[reader.channel as usize];
        // `place` is never below `first`: an entry leaves only when everybody is past it.
        let index = (reader.place - order.first) as usize;
        match order.entries.get(index) {
            Some(entry) if entry.message == message => {
                reader.place += 1;
                order.release(index, &mut self.settled);
            }
            _ => self.deliver_unexpected(subscriber, message, index),
        }
    }

    /// Publishers of messages that have by now reached every subscriber of this process (or were
    /// seen to be missed), one entry per message, since the last call.
    pub(crate) fn take_settled(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.settled);
    }

    /// Takes a subscriber out: nothing more is expected of it, what it missed does not count.
    pub(crate) fn leave(&mut self, subscriber: usize) {
        let reader = &mut self.subscribers[subscriber];
        if !std::mem::take(&mut reader.present) {
            return;
        }
        reader.missed.clear();
        let order = &mut self.channels[reader.channel as usize];
        order.subscribers -= 1;
        let from = (reader.place - order.first) as usize;
        for index in (from..order.entries.len()).rev() {
            order.release(index, &mut self.settled);
        }
    }

    /// Faults so far, without losses.
    pub(crate) fn faults(&self) -> Faults {
        self.faults
    }

    /// Deliveries missing now. `sent[p]` is how many messages publisher p has sent, `None` when
    /// nobody can tell because its own connection broke: then only what somebody got is expected.
    pub(crate) fn missing(&self, sent: &[Option<u32>]) -> u64 {
        let seen_by_others: u64 = self
            .subscribers
            .iter()
            .filter(|reader| reader.present)
            .map(|reader| {
                let order = &self.channels[reader.channel as usize];
                let ahead = order.first + order.entries.len() as u64 - reader.place;
                reader.missed.len() as u64 + ahead
            })
            .sum();
        let seen_by_nobody: u64 = self
            .publishers
            .iter()
            .zip(sent)
            .map(|(publisher, sent)| {
                let Some(sent) = *sent else { return 0 };
                let messages = u64::from(sent.saturating_sub(publisher.unseen))
                    + publisher.overtaken.len() as u64;
                messages * u64::from(self.channels[publisher.channel as usize].subscribers)
            })
            .sum();
        seen_by_others + seen_by_nobody
    }

    /// For each channel with subscribers a hash of the order of its messages; equal in two
    /// processes that saw the same.
    pub(crate) fn digests(&self) -> Vec<Option<u64>> {
        let digest = |order: &Order| (order.subscribers > 0).then_some(order.digest);
        self.channels.iter().map(digest).collect()
    }

    #[cold]
    #[inline(never)]
    fn deliver_unexpected(&mut self, subscriber: usize, message: Message, index: usize) {
        let reader = &mut self.subscribers[subscriber];
        let order = &mut self.channels[reader.channel as usize];
        let known_publisher = self.publishers.get_mut(message.publisher as usize);
        let Some(publisher) = known_publisher.filter(|known| known.channel == reader.channel)
        else {
            self.faults.misrouted += 1;
            return;
        };
        if let Some(ahead) = order.position_from(index, message) {
            self.jump(subscriber, index, ahead);
        } else if let Some(late) = reader.missed.iter().position(|&missed| missed == message) {
            reader.missed.swap_remove(late);
            self.faults.out_of_order += 1;
        } else if publisher.is_new(message.sequence) {
            let end = order.entries.len();
            order.entries.push_back(Entry { message, waiting: order.subscribers });
            self.jump(subscriber, index, end);
        } else if publisher.was_overtaken(message.sequence) {
            self.insert(subscriber, message, index);
        } else {
            self.faults.duplicated += 1;
        }
    }

    /// Takes a subscriber from `index` behind the entry `ahead`; what lies between it has missed,
    /// unless it still comes.
    fn jump(&mut self, subscriber: usize, index: usize, ahead: usize) {
        let reader = &mut self.subscribers[subscriber];
        let order = &mut self.channels[reader.channel as usize];
        reader.missed.extend(order.entries.range(index..ahead).map(|entry| entry.message));
        reader.place += (ahead - index) as u64 + 1;
        for passed in (index..=ahead).rev() {
            order.release(passed, &mut self.settled);
        }
    }

    /// Puts a message that everybody so far had missed where it belongs: before the next message of
    /// its publisher. Who is past that place has missed it, unless it still comes.
    fn insert(&mut self, subscriber: usize, message: Message, index: usize) {
        let channel = self.subscribers[subscriber].channel;
        let order = &mut self.channels[channel as usize];
        let later = |entry: &Entry| {
            entry.message.publisher == message.publisher
                && entry.message.sequence > message.sequence
        };
        let at = order.entries.iter().take(index).position(later).unwrap_or(index);
        if at < index {
            self.faults.out_of_order += 1;
        }
        order.entries.insert(at, Entry { message, waiting: order.subscribers });
        let place = order.first + at as u64;
        let readers = self.subscribers.iter_mut().enumerate();
        for (number, reader) in readers.filter(|(_, reader)| reader.channel == channel) {
            let passed = reader.place > place;
            if reader.present && (passed || number == subscriber) {
                reader.place += 1;
                order.entries[at].waiting -= 1;
                if number != subscriber {
                    reader.missed.push(message);
                }
            }
        }
        order.settle(at, &mut self.settled);
    }
}

impl Order {
    /// One subscriber less waits for the entry.
    #[inline]
    fn release(&mut self, index: usize, settled: &mut Vec<u32>) {
        self.entries[index].waiting -= 1;
        self.settle(index, settled);
    }

    /// If nobody waits for the entry any more: it is settled, and leaves once it is the oldest.
    #[inline]
    fn settle(&mut self, index: usize, settled: &mut Vec<u32>) {
        if self.entries[index].waiting > 0 {
            return;
        }
        settled.push(self.entries[index].message.publisher);
        while let Some(&Entry { message, waiting: 0 }) = self.entries.front() {
            let Message { publisher, sequence } = message;
            self.entries.pop_front();
            self.digest = mix(self.digest, u64::from(publisher) << 32 | u64::from(sequence));
            self.first += 1;
        }
    }

    fn position_from(&self, index: usize, message: Message) -> Option<usize> {
        let ahead = self.entries.range(index..).position(|entry| entry.message == message)?;
        Some(index + ahead)
    }
}

impl Publisher {
    /// Whether nobody has seen this number nor a later one; remembers that somebody has now.
    fn is_new(&mut self, sequence: u32) -> bool {
        let new = sequence >= self.unseen;
        if new {
            self.overtaken.extend(self.unseen..sequence);
            self.unseen = sequence + 1;
        }
        new
    }

    /// Whether nobody had seen this number though some saw a later one; forgets it.
    fn was_overtaken(&mut self, sequence: u32) -> bool {
        let overtaken = self.overtaken.iter().position(|&number| number == sequence);
        overtaken.map(|index| self.overtaken.swap_remove(index)).is_some()
    }
}

/// One step of a hash that depends on order.
fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests;
