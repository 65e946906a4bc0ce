//! What the memory broker keeps of one channel.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    broker::{History, HistoryQuery, PageBounds, Recovery, Terms},
    error::HistoryError,
    history::PAGE_BYTES,
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
    bytes: usize,
    /// Whether it is in the order in which room is made.
    pub(super) is_in_order: bool,
    /// Whether something was published since it was last looked at for that.
    pub(super) was_published: bool,
}

struct Entry {
    publication: Arc<Publication>,
    offset: u64,
    over_at: Instant,
}

/// What a stream takes beside its publications, its name in all places included.
const STREAM_BYTES: usize = 512;

/// What a publication takes beside its payload.
const ENTRY_BYTES: usize = 256;

impl Stream {
    /// A stream that nothing was published to.
    pub(super) fn new(epoch: u64, now: Instant) -> Self {
        Self {
            top: Position { offset: 0, epoch: Epoch { id: epoch, branch: 0 } },
            entries: VecDeque::new(),
            version: 0,
            version_epoch: String::new(),
            over_at: now,
            bytes: STREAM_BYTES,
            is_in_order: false,
            was_published: false,
        }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
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
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= ENTRY_BYTES + oldest.publication.data().len();
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
        self.bytes += ENTRY_BYTES + publication.data().len();
        self.entries.push_back(Entry { publication: Arc::clone(&publication), offset, over_at });
        while self.entries.len() > retention.size {
            self.drop_oldest();
        }
        self.over_at = now + retention.meta_ttl;
        self.was_published = true;
        publication
    }

    /// Throws away all publications; says whether there were any.
    pub(super) fn forget(&mut self) -> bool {
        let had_some = !self.entries.is_empty();
        self.entries.clear();
        self.bytes = STREAM_BYTES;
        had_some
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
        let bounds = PageBounds::new(query.limit, PAGE_BYTES);
        let entries = self.entries.iter();
        let publications = match query.is_reverse {
            false => page(entries.filter(is_wanted), bounds),
            true => page(entries.rev().filter(is_wanted), bounds),
        };
        Ok(History { top: self.top, publications })
    }

    pub(super) fn recover(&self, since: Position, bounds: PageBounds, now: Instant) -> Recovery {
        let top = self.top;
        let missed = match top.offset.checked_sub(since.offset) {
            Some(missed) if since.epoch == top.epoch => missed,
            _ => return Recovery::Lost { top },
        };
        let Some(skipped) = (self.entries.len() as u64).checked_sub(missed) else {
            return Recovery::Lost { top };
        };
        let behind = self.entries.iter().skip(skipped as usize);
        let ttl = behind.clone().next().map_or(Duration::ZERO, |oldest| oldest.over_at - now);
        Recovery::Page { top, publications: page(behind, bounds), ttl }
    }
}

fn page<'a>(entries: impl Iterator<Item = &'a Entry>, bounds: PageBounds) -> Vec<Arc<Publication>> {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        let has_room = bytes < bounds.bytes;
        bytes += entry.publication.data().len();
        has_room
    };
    let page = entries.take(bounds.publications).take_while(fits);
    page.map(|entry| Arc::clone(&entry.publication)).collect()
}
