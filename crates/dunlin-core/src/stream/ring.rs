//! The ring: the last publications of a stream, for those who come back.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use crate::publication::Publication;

/// Most bytes kept of one channel.
const RING_BYTES_MAX: usize = 1 << 20;

/// What a publication takes beside its payload and a frame of about the same size.
const OVERHEAD_BYTES: usize = 512;

/// What one is taken to weigh before there was any.
const LIKELY_BYTES: u64 = 1024;

/// Publications that follow each other without a gap, each for as long as the channel keeps it.
#[derive(Debug, Default)]
pub(super) struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    publication: Arc<Publication>,
    over_at: Instant,
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// About how much memory they take, frames included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// About how many bytes so many publications would be for the broker to tell.
    pub(super) fn likely_bytes(&self, publications: u64) -> usize {
        let each = (self.bytes as u64).checked_div(self.kept.len() as u64);
        let likely = each.unwrap_or(LIKELY_BYTES).saturating_mul(publications);
        usize::try_from(likely).unwrap_or(usize::MAX)
    }

    /// Appends the newest; at most `size` stay.
    pub(super) fn push(&mut self, publication: &Arc<Publication>, over_at: Instant, size: usize) {
        self.bytes += weight(publication);
        self.kept.push_back(Kept { publication: Arc::clone(publication), over_at });
        while self.kept.len() > size || self.bytes > RING_BYTES_MAX {
            self.drop_oldest();
        }
    }

    /// Puts older ones before the oldest, as many of the last of them as there is room for.
    pub(super) fn fill<'a>(
        &mut self,
        older: impl DoubleEndedIterator<Item = &'a Arc<Publication>>,
        over_at: Instant,
        size: usize,
    ) {
        for publication in older.rev() {
            let weight = weight(publication);
            if self.kept.len() >= size || self.bytes + weight > RING_BYTES_MAX {
                return;
            }
            self.bytes += weight;
            self.kept.push_front(Kept { publication: Arc::clone(publication), over_at });
        }
    }

    /// Lets go of what has been kept for its time.
    pub(super) fn expire(&mut self, now: Instant) {
        // What was filled in has a deadline of its own, so all before an expired one are expired.
        let expired = self.kept.iter().rposition(|kept| kept.over_at <= now);
        for _ in 0..expired.map_or(0, |last| last + 1) {
            self.drop_oldest();
        }
    }

    /// The newest.
    pub(super) fn last(&self) -> Option<&Arc<Publication>> {
        self.kept.back().map(|kept| &kept.publication)
    }

    /// The newest so many; none if there are fewer.
    pub(super) fn tail(&self, count: usize) -> Option<impl Iterator<Item = &Arc<Publication>>> {
        let skipped = self.kept.len().checked_sub(count)?;
        Some(self.kept.iter().skip(skipped).map(|kept| &kept.publication))
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.bytes -= weight(&oldest.publication);
        }
    }
}

fn weight(publication: &Publication) -> usize {
    2 * publication.data().len() + OVERHEAD_BYTES
}
