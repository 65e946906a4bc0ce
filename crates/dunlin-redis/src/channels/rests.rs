//! Partitions that a server does not have now, or that nobody has: they are asked for again and
//! again, less and less often.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{cluster::ELSEWHERE_PAUSE, partition::Partition};

/// See the module's text.
#[derive(Default)]
pub(super) struct Rests {
    /// Until when, and for how long in all.
    rests: BTreeMap<Partition, (Instant, Duration)>,
}

impl Rests {
    /// Begins a rest, twice as long as the one before. Several errors at once are one.
    pub(super) fn begin(&mut self, partition: Partition, now: Instant) {
        let (until, length) = self.rests.entry(partition).or_insert((now, ELSEWHERE_PAUSE / 2));
        if *until <= now {
            *length = (*length * 2).min(REST_MAX);
            *until = now + *length;
        }
    }

    /// The partition is there: its next rest is a short one.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.rests.remove(&partition);
    }

    pub(super) fn may_ask(&self, partition: Partition, now: Instant) -> bool {
        self.rests.get(&partition).is_none_or(|(until, _)| *until <= now)
    }

    /// When the next rest ends, of those that are not over.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        self.rests.values().map(|(until, _)| *until).filter(|until| *until > now).min()
    }
}

const REST_MAX: Duration = Duration::from_millis(400);
