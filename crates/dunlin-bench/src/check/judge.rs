//! Judges what subscribers get while they come and go: per channel one order for all, no gap and
//! no repetition, unless the server said "not recovered" at that point. Pure: no clock, no socket.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use super::stream::{Place, Stream};

/// A publication, by who published it and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) publisher: usize,
    pub(crate) sequence: u32,
}

impl fmt::Display for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "publication {} of client {}", self.sequence, self.publisher)
    }
}

/// What was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Faults {
    /// Publications a subscriber should have got and did not, or nobody got though acknowledged.
    pub(crate) gaps: u64,
    /// Publications that a subscriber got twice, or that are in a stream twice.
    pub(crate) duplicates: u64,
    /// Publications that came late, or where another subscriber has a different one.
    pub(crate) reorders: u64,
    /// Recoveries that were said to be complete and were not.
    pub(crate) false_recovered: u64,
    /// Publications on another channel than they were published to, or that nobody published.
    pub(crate) misrouted: u64,
}

/// How a subscription began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The first one, or one after "not recovered": nothing before it is owed.
    Anew,
    /// With the promise that so many publications follow at once and nothing is missing.
    Recovered { publications: usize },
}

/// The judge of all subscribers (one per client and channel) and publishers.
pub(super) struct Judge {
    streams: Vec<Stream>,
    readers: Vec<Reader>,
    publishers: Vec<Publisher>,
    faults: Faults,
}

struct Reader {
    channel: usize,
    /// Where it is: branch of the stream (by number) and offset; `None` before it was anywhere.
    at: Option<(usize, u64)>,
    /// Offsets it jumped over: gaps, unless they still come (then they are reorders).
    missed: BTreeSet<u64>,
    /// So many of the next deliveries prove or disprove a claimed recovery.
    on_trial: usize,
}

struct Publisher {
    channel: usize,
    /// Above all numbers that anybody has got.
    unseen: u32,
    /// Numbers below it that nobody has got.
    holes: BTreeSet<u32>,
    /// Acknowledged numbers that nobody has got yet.
    owed: BTreeSet<u32>,
}

impl Judge {
    /// `readers` and `publishers` name the channel of each, below `channels`.
    pub(super) fn new(channels: usize, readers: &[usize], publishers: &[usize]) -> Self {
        let reader = |&channel| Reader { channel, at: None, missed: BTreeSet::new(), on_trial: 0 };
        let publisher = |&channel| Publisher {
            channel,
            unseen: 0,
            holes: BTreeSet::new(),
            owed: BTreeSet::new(),
        };
        Self {
            streams: (0..channels).map(|_| Stream::default()).collect(),
            readers: readers.iter().map(reader).collect(),
            publishers: publishers.iter().map(publisher).collect(),
            faults: Faults::default(),
        }
    }

    /// What the server says about a new subscription. `offset` is where the subscriber now is;
    /// after a recovery that must be where it was.
    pub(super) fn subscribe(&mut self, reader: usize, start: Start, epoch: &str, offset: u64) {
        let reader = &mut self.readers[reader];
        let branch = self.streams[reader.channel].branch(epoch, offset);
        reader.missed.clear();
        reader.on_trial = 0;
        let before = reader.at.replace((branch, offset));
        let Start::Recovered { publications } = start else { return };
        reader.on_trial = publications + 1;
        match before {
            Some((_, was)) if was == offset => {}
            // Another branch may fork off before where it was.
            Some((other, was)) if other != branch && offset < was => {}
            Some((_, was)) => {
                self.faults.false_recovered += 1;
                self.faults.gaps += offset.saturating_sub(was);
            }
            // There was nothing to recover from.
            None => self.faults.false_recovered += 1,
        }
    }

    /// One delivery; `message` is `None` when it is none of this run's.
    pub(super) fn deliver(&mut self, reader: usize, offset: u64, message: Option<Message>) {
        let before = self.faults;
        let channel = self.readers[reader].channel;
        let known = message.filter(|message| {
            let publisher = self.publishers.get(message.publisher);
            publisher.is_some_and(|publisher| publisher.channel == channel)
        });
        self.faults.misrouted += u64::from(known.is_none());
        let Some(branch) = self.advance(reader, offset) else {
            // A subscription that was never granted delivers nothing.
            self.faults.misrouted += 1;
            return;
        };
        if let Some(message) = known {
            match self.streams[channel].place(branch, offset, message) {
                Place::New if self.publishers[message.publisher].see(message.sequence) => {}
                Place::New => self.faults.duplicates += 1,
                Place::Same | Place::Forgotten => {}
                Place::Different => self.faults.reorders += 1,
            }
        }
        let reader = &mut self.readers[reader];
        if reader.on_trial > 0 {
            reader.on_trial -= 1;
            if self.faults != before {
                self.faults.false_recovered += 1;
                reader.on_trial = 0;
            }
        }
    }

    /// A publisher was told that its publication is in the stream.
    pub(super) fn acknowledge(&mut self, message: Message) {
        let publisher = &mut self.publishers[message.publisher];
        if !publisher.has_been_seen(message.sequence) {
            publisher.owed.insert(message.sequence);
        }
    }

    /// The channel of each reader.
    pub(super) fn reader_channels(&self) -> impl Iterator<Item = usize> {
        self.readers.iter().map(|reader| reader.channel)
    }

    /// The channel of each publisher.
    pub(super) fn publisher_channels(&self) -> impl Iterator<Item = usize> {
        self.publishers.iter().map(|publisher| publisher.channel)
    }

    /// Where a subscriber is: what it recovers from.
    pub(super) fn position(&self, reader: usize) -> Option<(u64, &str)> {
        let reader = &self.readers[reader];
        let (branch, offset) = reader.at?;
        Some((offset, self.streams[reader.channel].epoch(branch)))
    }

    /// Subscribers that have not reached the end of their channel, by how much.
    pub(super) fn behind(&self) -> u64 {
        let behind = |reader: &Reader| match reader.at {
            Some((branch, offset)) => self.streams[reader.channel].ahead_of(branch, offset),
            None => 1,
        };
        self.readers.iter().map(behind).sum()
    }

    /// Acknowledged publications that nobody has got. Those that fell where every subscriber of the
    /// channel was told "not recovered" are covered and do not count.
    pub(super) fn lost(&self) -> u64 {
        let mut owed = vec![0_u64; self.streams.len()];
        for publisher in &self.publishers {
            owed[publisher.channel] += publisher.owed.len() as u64;
        }
        let streams = self.streams.iter().zip(owed);
        streams.map(|(stream, owed)| owed.saturating_sub(stream.unseen())).sum()
    }

    /// Faults so far.
    pub(super) fn faults(&self) -> Faults {
        self.faults
    }

    /// All faults, once everything that will come has come.
    pub(super) fn verdict(&self) -> Faults {
        Faults { gaps: self.faults.gaps + self.behind() + self.lost(), ..self.faults }
    }

    /// Takes a reader to `offset` and notes what it jumped over; says on which branch it is.
    fn advance(&mut self, reader: usize, offset: u64) -> Option<usize> {
        let reader = &mut self.readers[reader];
        let (branch, at) = reader.at?;
        if offset > at {
            self.faults.gaps += offset - at - 1;
            let remembered = (at + 1).max(offset.saturating_sub(MISSED_MAX));
            reader.missed.extend(remembered..offset);
            reader.at = Some((branch, offset));
        } else if reader.missed.remove(&offset) {
            self.faults.gaps -= 1;
            self.faults.reorders += 1;
        } else {
            self.faults.duplicates += 1;
        }
        Some(branch)
    }
}

impl Publisher {
    /// Notes that somebody got this number; false if it has been got before.
    fn see(&mut self, sequence: u32) -> bool {
        self.owed.remove(&sequence);
        if sequence < self.unseen {
            return self.holes.remove(&sequence);
        }
        self.holes.extend(self.unseen..sequence);
        self.unseen = sequence + 1;
        true
    }

    fn has_been_seen(&self, sequence: u32) -> bool {
        sequence < self.unseen && !self.holes.contains(&sequence)
    }
}

/// Of a longer jump only the last so many offsets are remembered.
const MISSED_MAX: u64 = 1000;
