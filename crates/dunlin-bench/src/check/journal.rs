//! What publishers and subscribers saw, in the order in which they saw it, for an examination
//! afterwards. One clock for all (`clock::now`).

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::judge::{Message, Start};
use crate::{
    clock::{self, SECOND},
    payload::Stamp,
};

/// The journals of all publishers and readers (one reader per client and channel).
#[derive(Default)]
pub(crate) struct Journal {
    /// Every epoch that a server has named; entries name it by its index.
    pub(crate) epochs: Vec<String>,
    numbers: HashMap<String, usize>,
    /// By publisher, then by sequence number.
    pub(crate) publishers: Vec<PublisherJournal>,
    pub(crate) readers: Vec<ReaderJournal>,
}

/// What one client published.
pub(crate) struct PublisherJournal {
    pub(crate) channel: usize,
    pub(crate) publications: Vec<Sent>,
    /// Never cut by us.
    pub(crate) steady: bool,
}

/// A publication and what its publisher was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: u64,
    pub(crate) answer: Option<Answer>,
}

/// The answer to a publication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) at: u64,
    /// It is in the stream; otherwise an error, after which it is there once or not.
    pub(crate) acknowledged: bool,
}

/// What one client saw of one channel.
pub(crate) struct ReaderJournal {
    pub(crate) channel: usize,
    pub(crate) entries: Vec<Entry>,
    /// Never cut by us.
    pub(crate) steady: bool,
    /// Subscribed when the journal was closed.
    pub(crate) subscribed: bool,
}

/// One thing a reader saw.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// A subscription was granted, at this offset of this epoch.
    Started { at: u64, start: Start, epoch: usize, offset: u64 },
    /// `None`: nothing that this run published.
    Delivered { at: u64, offset: u64, message: Option<Message> },
}

impl Journal {
    /// The channels of readers (and whether they are steady) and of publishers.
    pub(crate) fn new(
        readers: impl Iterator<Item = (usize, bool)>,
        publishers: impl Iterator<Item = (usize, bool)>,
    ) -> Self {
        let reader = |(channel, steady)| {
            let (entries, subscribed) = (Vec::new(), false);
            ReaderJournal { channel, entries, steady, subscribed }
        };
        let publisher = |(channel, steady)| {
            let publications = Vec::new();
            PublisherJournal { channel, publications, steady }
        };
        Self {
            readers: readers.map(reader).collect(),
            publishers: publishers.map(publisher).collect(),
            ..Self::default()
        }
    }

    /// A publication leaves; its number is that of those before it.
    pub(crate) fn sent(&mut self, publisher: usize, at: u64) {
        self.publishers[publisher].publications.push(Sent { at, answer: None });
    }

    /// Its publisher is told.
    pub(crate) fn answered(&mut self, message: Message, at: u64, acknowledged: bool) {
        let publications = &mut self.publishers[message.publisher].publications;
        if let Some(sent) = publications.get_mut(message.sequence as usize) {
            sent.answer = Some(Answer { at, acknowledged });
        }
    }

    /// A reader is granted its subscription.
    pub(crate) fn started(
        &mut self,
        reader: usize,
        at: u64,
        start: Start,
        epoch: &str,
        offset: u64,
    ) {
        let next = self.epochs.len();
        let epoch = *self.numbers.entry(epoch.to_owned()).or_insert_with(|| {
            self.epochs.push(epoch.to_owned());
            next
        });
        self.readers[reader].entries.push(Entry::Started { at, start, epoch, offset });
    }

    /// A reader gets a publication.
    pub(crate) fn delivered(
        &mut self,
        reader: usize,
        at: u64,
        offset: u64,
        message: Option<Message>,
    ) {
        self.readers[reader].entries.push(Entry::Delivered { at, offset, message });
    }

    /// What is known of a publication; `None` if nobody published it.
    pub(crate) fn publication(&self, message: Message) -> Option<&Sent> {
        let publisher = self.publishers.get(message.publisher)?;
        publisher.publications.get(message.sequence as usize)
    }
}

impl Sent {
    /// When its publisher was told that it is in the stream.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        self.answer.filter(|answer| answer.acknowledged).map(|answer| answer.at)
    }
}

/// What a running swarm and another thread tell one another.
pub(crate) struct Signals {
    /// Publications are made as long as this.
    pub(crate) payload_bytes: AtomicUsize,
    /// When a steady client was last refused something, or lost its connection.
    trouble: AtomicU64,
    /// How many nodes say that they are not ready.
    pub(crate) unready: AtomicUsize,
    /// When a steady client last got something late.
    late: AtomicU64,
    /// By channel: when a steady client last got something; for ever, where none is.
    fresh: Vec<AtomicU64>,
    /// How long it takes until something has come in every channel.
    round: u64,
}

impl Signals {
    pub(crate) fn new(channels: usize, rate: f64) -> Self {
        Self {
            round: (ROUNDS * channels as f64 / rate * SECOND as f64) as u64,
            payload_bytes: AtomicUsize::new(Stamp::BYTES),
            trouble: AtomicU64::new(0),
            unready: AtomicUsize::new(0),
            late: AtomicU64::new(0),
            fresh: (0..channels).map(|_| AtomicU64::new(u64::MAX)).collect(),
        }
    }

    pub(super) fn delivered(&self, channel: usize, sent: u64, at: u64) {
        self.fresh[channel].store(at, Ordering::Relaxed);
        if at.saturating_sub(sent) > LATE_NS {
            self.late.store(at, Ordering::Relaxed);
        }
    }

    pub(super) fn troubled(&self) {
        self.trouble.store(clock::now(), Ordering::Relaxed);
    }

    /// Whether all nodes are ready, for a second nothing was late or refused, and something came in
    /// every channel.
    pub(crate) fn is_calm(&self) -> bool {
        self.works() && !came_within(SECOND, &self.late)
    }

    /// The same, but for what is late: on a busy machine something always is.
    pub(crate) fn works(&self) -> bool {
        let round = self.round.max(SECOND);
        self.unready.load(Ordering::Relaxed) == 0
            && !came_within(SECOND, &self.trouble)
            && self.fresh.iter().all(|at| came_within(round, at))
    }
}

fn came_within(time: u64, at: &AtomicU64) -> bool {
    at.load(Ordering::Relaxed) > clock::now().saturating_sub(time)
}

/// A delivery that takes longer is late. Far above what a healthy server needs, also in a debug
/// build on a busy machine.
pub(crate) const LATE_NS: u64 = SECOND / 2;
/// So many publications per channel, on average, leave hardly one out.
const ROUNDS: f64 = 12.0;
