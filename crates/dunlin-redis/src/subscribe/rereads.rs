//! Partitions to be read once more. A primary that is new to its part may deliver nothing for a
//! moment to who has just subscribed, though it has confirmed it: so histories are compared when
//! the subscriptions stand, and again a little later.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use foldhash::quality::RandomState;
use tokio::time::Instant;

use crate::partition::Partition;

/// See the module's text.
#[derive(Default)]
pub(super) struct Rereads {
    /// When a subscription stood last in each.
    stood: HashMap<Partition, Instant, RandomState>,
}

impl Rereads {
    /// The partition was subscribed to anew.
    pub(super) fn begin(&mut self, partition: Partition) {
        self.stood.insert(partition, Instant::now());
    }

    /// A subscription stands there, which counts if it belongs to those that were made anew.
    pub(super) fn note_standing(&mut self, partition: impl FnOnce() -> Partition) {
        if !self.stood.is_empty()
            && let Some(stood) = self.stood.get_mut(&partition())
        {
            *stood = Instant::now();
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.stood.values().min().map(|stood| *stood + REREAD_AFTER)
    }

    /// Those that are due. Where subscriptions are still `pending` it is too early.
    pub(super) fn take_due(&mut self, pending: &HashSet<Partition>) -> Vec<Partition> {
        let now = Instant::now();
        let is_due = |stood: &Instant| now - *stood >= REREAD_AFTER;
        let early = self.stood.iter_mut().filter(|(partition, _)| pending.contains(partition));
        early.filter(|(_, stood)| is_due(stood)).for_each(|(_, stood)| *stood = now);
        let due = self.stood.extract_if(|_, stood| is_due(stood));
        due.map(|(partition, _)| partition).collect()
    }
}

/// Redis 7.0 takes up to 0.8 s.
const REREAD_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_due_a_second_after_its_last_subscription_stood() {
        let mut rereads = Rereads::default();
        let partition = Partition::FIRST;
        rereads.note_standing(|| partition);
        assert_eq!(rereads.next(), None, "it was not made anew");
        rereads.begin(partition);
        advance(REREAD_AFTER / 2).await;
        rereads.note_standing(|| partition);
        let none = HashSet::new();
        advance(REREAD_AFTER / 2).await;
        assert_eq!(rereads.take_due(&none), []);
        advance(REREAD_AFTER / 2).await;
        assert_eq!(rereads.next(), Some(Instant::now()));
        assert_eq!(rereads.take_due(&[partition].into()), [], "not all stand");
        rereads.note_standing(|| partition);
        advance(REREAD_AFTER).await;
        assert_eq!(rereads.take_due(&none), [partition]);
        assert_eq!(rereads.next(), None);
    }
}
