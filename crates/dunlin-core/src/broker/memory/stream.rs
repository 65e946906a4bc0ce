//! What the memory broker keeps of one channel, and the answers it gave.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    broker::{History, HistoryQuery, Recovery, Terms},
    channel::ChannelName,
    error::HistoryError,
    namespace::Retention,
    position::{Epoch, Position},
    publication::Publication,
};

/// A channel's publications with their offsets, the oldest first and none missing.
pub(super) struct Stream {
    top: Position,
    entries: VecDeque<Entry>,
    version: u64,
    version_epoch: String,
    over_at: Instant,
}

struct Entry {
    publication: Arc<Publication>,
    offset: u64,
    over_at: Instant,
}

/// How long a channel is remembered to which nothing was published, after the last question.
const UNUSED_KEPT: Duration = Duration::from_secs(60 * 60);

impl Stream {
    /// A stream without publications, kept for a while only: whoever may ask for channels must not
    /// fill the memory with names.
    pub(super) fn new(epoch: u64, retention: Retention, now: Instant) -> Self {
        Self {
            top: Position { offset: 0, epoch: Epoch { id: epoch, branch: 0 } },
            entries: VecDeque::new(),
            version: 0,
            version_epoch: String::new(),
            over_at: now + retention.meta_ttl.min(UNUSED_KEPT),
        }
    }

    /// Notes that somebody asked: what is asked for is kept although nothing was published yet.
    pub(super) fn note_use(&mut self, retention: Retention, now: Instant) {
        if self.top.offset == 0 {
            self.over_at = now + retention.meta_ttl.min(UNUSED_KEPT);
        }
    }

    pub(super) fn top(&self) -> Position {
        self.top
    }

    /// Whether the channel is to be forgotten altogether.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.over_at <= now
    }

    /// Throws away what has been kept for its time.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|entry| entry.over_at <= now) {
            self.entries.pop_front();
        }
    }

    /// Whether a publish on these terms counts; then its version is the newest.
    pub(super) fn takes(&mut self, terms: &Terms) -> bool {
        if terms.version == 0 {
            return true;
        }
        if terms.version_epoch == self.version_epoch && terms.version <= self.version {
            return false;
        }
        self.version = terms.version;
        self.version_epoch.clone_from(&terms.version_epoch);
        true
    }

    pub(super) fn append(
        &mut self,
        publication: Publication,
        retention: Retention,
        now: Instant,
    ) -> Arc<Publication> {
        self.top.offset += 1;
        let publication = Arc::new(publication.at(self.top));
        let (offset, over_at) = (self.top.offset, now + retention.ttl);
        self.entries.push_back(Entry { publication: Arc::clone(&publication), offset, over_at });
        let excess = self.entries.len().saturating_sub(retention.size);
        self.entries.drain(..excess);
        self.over_at = now + retention.meta_ttl;
        publication
    }

    pub(super) fn forget(&mut self) {
        self.entries.clear();
    }

    pub(super) fn history(&self, query: HistoryQuery) -> Result<History, HistoryError> {
        let since = query.since;
        if since.and_then(|since| since.epoch).is_some_and(|epoch| epoch != self.top.epoch) {
            return Err(HistoryError::WrongEpoch);
        }
        let is_wanted = |entry: &&Entry| match since {
            None => true,
            Some(since) if query.is_reverse => entry.offset < since.offset,
            Some(since) => entry.offset > since.offset,
        };
        let publication = |entry: &Entry| Arc::clone(&entry.publication);
        let entries = self.entries.iter();
        let publications = match query.is_reverse {
            false => entries.filter(is_wanted).take(query.limit).map(publication).collect(),
            true => entries.rev().filter(is_wanted).take(query.limit).map(publication).collect(),
        };
        Ok(History { top: self.top, publications })
    }

    pub(super) fn recover(&self, since: Position, limit: usize) -> Recovery {
        let top = self.top;
        let missed = match top.offset.checked_sub(since.offset) {
            Some(missed) if since.epoch == top.epoch => missed,
            _ => return Recovery::Lost { top },
        };
        let kept = self.entries.len() as u64;
        if missed > kept || missed > limit as u64 {
            return Recovery::Lost { top };
        }
        let behind = self.entries.iter().skip((kept - missed) as usize);
        let publications = behind.map(|entry| Arc::clone(&entry.publication)).collect();
        Recovery::Whole { base: since.offset, top, publications }
    }
}

/// How publishes with an idempotency key were answered.
#[derive(Default)]
pub(super) struct Answers {
    by_key: HashMap<(ChannelName, String), Option<Position>>,
    /// The keys of the table, the oldest first.
    ages: VecDeque<(Instant, (ChannelName, String))>,
}

/// How long an answer is remembered.
const IDEMPOTENCY_TTL: Duration = Duration::from_secs(5 * 60);

impl Answers {
    pub(super) fn get(
        &mut self,
        channel: &ChannelName,
        key: &str,
        now: Instant,
    ) -> Option<Option<Position>> {
        self.expire(now);
        if key.is_empty() {
            return None;
        }
        self.by_key.get(&(channel.clone(), key.to_owned())).copied()
    }

    pub(super) fn keep(
        &mut self,
        channel: ChannelName,
        key: String,
        answer: Option<Position>,
        now: Instant,
    ) {
        if !key.is_empty() {
            self.ages.push_back((now + IDEMPOTENCY_TTL, (channel.clone(), key.clone())));
            self.by_key.insert((channel, key), answer);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((over_at, key)) = self.ages.front()
            && *over_at <= now
        {
            self.by_key.remove(key);
            self.ages.pop_front();
        }
    }
}
