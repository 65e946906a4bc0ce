//! Who is at the door and how long they have been silent. Pure: no clock, no sockets.

use std::collections::{BTreeSet, HashMap};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::sync::oneshot;

use crate::front::source::{Source, Sources};

/// A visitor. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct VisitorId(u64);

/// How many there may be.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Most visitors.
    pub(crate) places: usize,
    /// Most silent ones of one address; of an IPv6 network see [`Source::share`].
    pub(crate) per_address: usize,
}

/// Who was sent away for others.
#[derive(Clone, Debug)]
pub(crate) struct Evicted {
    /// All places were taken.
    pub(crate) full: Counter,
    /// Their address had more silent sockets than it may.
    pub(crate) address: Counter,
}

/// The visitors. The older a turn, the longer it is past.
pub(super) struct Table {
    bounds: Bounds,
    evicted: Evicted,
    count: Gauge,
    visitors: HashMap<VisitorId, Entry>,
    /// How many of them nobody has looked at yet.
    new: usize,
    /// The turn of everything that happens.
    turn: u64,
    silent: Queue,
    silent_by_source: HashMap<Source, Queue>,
}

/// Most visitors that nobody has looked at yet, or an eighth of all if that is less.
const NEW_MAX: usize = 64;

/// Since which turn who has been silent, the longest first.
type Queue = BTreeSet<(u64, VisitorId)>;

struct Entry {
    sources: Sources,
    manner: Manner,
    send_away: oneshot::Sender<()>,
}

/// What a visitor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Nobody has looked yet what it sent.
    New { turn: u64 },
    /// Whatever comes next has to come from it. Parts of a request do not count.
    Silent { since: u64 },
    /// It sent a whole request and has no answer yet.
    Asking,
}

impl Table {
    /// `count` is of all tables that it is given to.
    pub(super) fn new(bounds: Bounds, evicted: Evicted, count: Gauge) -> Self {
        Self {
            bounds,
            evicted,
            count,
            visitors: HashMap::new(),
            new: 0,
            turn: 0,
            silent: Queue::new(),
            silent_by_source: HashMap::new(),
        }
    }

    /// Whether one more can be taken in. Not while many are new: a crowd of one address would take
    /// places of others before it is known to be silent.
    pub(super) fn has_room(&self) -> bool {
        let new_max = (self.bounds.places / 8).clamp(1, NEW_MAX);
        let has_place = self.visitors.len() < self.bounds.places || !self.silent.is_empty();
        has_place && self.new < new_max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.visitors.is_empty()
    }

    /// Takes one in; who has been silent longest makes room. The receiver hears when it has to go.
    pub(super) fn enter(&mut self, sources: Sources) -> (VisitorId, oneshot::Receiver<()>) {
        if self.visitors.len() >= self.bounds.places
            && let Some(&(_, longest)) = self.silent.first()
        {
            self.evicted.full.inc();
            self.send_away(longest);
        }
        let turn = self.next_turn();
        let id = VisitorId(turn);
        self.new += 1;
        let (send_away, sent_away) = oneshot::channel();
        self.visitors.insert(id, Entry { sources, manner: Manner::New { turn }, send_away });
        self.count.inc();
        (id, sent_away)
    }

    /// It turns out to count for others than it entered for.
    pub(super) fn comes_from(&mut self, id: VisitorId, sources: Sources) {
        let Some(manner) = self.visitors.get(&id).map(|entry| entry.manner) else { return };
        if matches!(manner, Manner::Silent { .. }) {
            self.unqueue(id);
        }
        if let Some(entry) = self.visitors.get_mut(&id) {
            entry.sources = sources;
        }
        if let Manner::Silent { since } = manner {
            self.silence(id, since);
        }
    }

    /// Nothing more is there of what it sent.
    pub(super) fn found_silent(&mut self, id: VisitorId) {
        if let Some(Entry { manner: Manner::New { turn }, .. }) = self.visitors.get(&id) {
            let turn = *turn;
            self.unqueue(id);
            self.silence(id, turn);
        }
    }

    /// It sent a whole request.
    pub(super) fn asked(&mut self, id: VisitorId) {
        if self.unqueue(id).is_some() {
            self.set(id, Manner::Asking);
        }
    }

    /// It has its answer, or some of it: now it is its turn to take it and to go on.
    pub(super) fn answered(&mut self, id: VisitorId) {
        let turn = self.next_turn();
        if self.unqueue(id).is_some() {
            self.silence(id, turn);
        }
    }

    /// It took something of what it is sent.
    pub(super) fn took(&mut self, id: VisitorId) {
        if let Some(Entry { manner: Manner::Silent { .. }, .. }) = self.visitors.get(&id) {
            self.answered(id);
        }
    }

    /// It is gone, or needs no place any more. False if it was already.
    pub(super) fn leave(&mut self, id: VisitorId) -> bool {
        self.remove(id).is_some()
    }

    fn silence(&mut self, id: VisitorId, since: u64) {
        self.set(id, Manner::Silent { since });
        self.silent.insert((since, id));
        let sources = self.visitors.get(&id).map(|entry| entry.sources.clone());
        let mut crowded = Vec::new();
        for source in sources.unwrap_or_default() {
            let queue = self.silent_by_source.entry(source).or_default();
            queue.insert((since, id));
            if queue.len() > self.bounds.per_address.saturating_mul(source.share() as usize) {
                crowded.push(source);
            }
        }
        for source in crowded {
            self.evict_from(source);
        }
    }

    /// Sends away who has been silent longest of `source`, if it still has too many.
    fn evict_from(&mut self, source: Source) {
        let Some(queue) = self.silent_by_source.get(&source) else { return };
        let has_too_many =
            queue.len() > self.bounds.per_address.saturating_mul(source.share() as usize);
        if let (true, Some(&(_, longest))) = (has_too_many, queue.first()) {
            self.evicted.address.inc();
            self.send_away(longest);
        }
    }

    fn send_away(&mut self, id: VisitorId) {
        if let Some(entry) = self.remove(id) {
            // It may be going by itself.
            let _ = entry.send_away.send(());
        }
    }

    fn remove(&mut self, id: VisitorId) -> Option<Entry> {
        self.unqueue(id)?;
        self.count.dec();
        self.visitors.remove(&id)
    }

    /// Forgets what a visitor was doing, before it does something else; none if nobody knows it.
    fn unqueue(&mut self, id: VisitorId) -> Option<()> {
        let entry = self.visitors.get(&id)?;
        match entry.manner {
            Manner::New { .. } => self.new -= 1,
            Manner::Asking => {}
            Manner::Silent { since } => {
                self.silent.remove(&(since, id));
                for source in &entry.sources {
                    let Some(queue) = self.silent_by_source.get_mut(source) else { continue };
                    queue.remove(&(since, id));
                    if queue.is_empty() {
                        self.silent_by_source.remove(source);
                    }
                }
            }
        }
        Some(())
    }

    fn set(&mut self, id: VisitorId, manner: Manner) {
        if let Some(entry) = self.visitors.get_mut(&id) {
            entry.manner = manner;
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }
}

#[cfg(test)]
mod tests;
