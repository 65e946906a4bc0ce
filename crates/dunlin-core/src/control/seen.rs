//! Which orders a node has seen: each is obeyed once, and not when it comes too late.

use std::collections::{HashSet, VecDeque};

use foldhash::quality::RandomState;

use super::MessageId;

/// The orders of the last minute. Bounded in number too, whatever the clocks of others say.
#[derive(Debug, Default)]
pub struct Seen {
    ids: HashSet<MessageId, RandomState>,
    /// In the order in which they came, with the time of that.
    by_age: VecDeque<(u64, MessageId)>,
}

impl Seen {
    /// The longest way of an order from its writer to here. One that is older was meant for a world
    /// that is gone: a connection that it would end may be one that its application wants.
    pub const AGE_MAX_MS: u64 = 60_000;

    /// Most orders remembered.
    const COUNT_MAX: usize = 1 << 16;

    /// Whether an order has to be obeyed: it comes in time, and for the first time. Times are unix
    /// milliseconds; clocks of nodes have to agree within a few seconds.
    pub fn is_due(&mut self, id: MessageId, sent_at_ms: u64, now_ms: u64) -> bool {
        self.forget(now_ms);
        let is_late = now_ms.saturating_sub(sent_at_ms) > Self::AGE_MAX_MS;
        if is_late || !self.ids.insert(id) {
            return false;
        }
        self.by_age.push_back((now_ms, id));
        true
    }

    /// What came twice [`Seen::AGE_MAX_MS`] ago cannot come again and be in time, unless its
    /// writer's clock runs that far ahead.
    fn forget(&mut self, now_ms: u64) {
        while let Some((came_at_ms, id)) = self.by_age.front() {
            let is_old = now_ms.saturating_sub(*came_at_ms) > 2 * Self::AGE_MAX_MS;
            if !is_old && self.by_age.len() < Self::COUNT_MAX {
                return;
            }
            self.ids.remove(id);
            self.by_age.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    fn id(number: u64) -> MessageId {
        MessageId { node: NodeId::new(7), number }
    }

    #[test]
    fn an_order_is_due_once_and_in_time_only() {
        let mut seen = Seen::default();
        assert!(seen.is_due(id(1), 1_000, 1_000));
        assert!(!seen.is_due(id(1), 1_000, 1_001));
        assert!(seen.is_due(id(2), 1_000, 61_000));
        assert!(!seen.is_due(id(3), 1_000, 61_001));
        assert!(seen.is_due(id(4), 99_000, 1_000), "a clock that runs ahead is no delay");
    }

    #[test]
    fn what_is_seen_is_forgotten_in_the_end() {
        let mut seen = Seen::default();
        for number in 0..100_000 {
            assert!(seen.is_due(id(number), 1_000, 1_000));
        }
        assert!(seen.ids.len() <= Seen::COUNT_MAX);
        assert!(seen.is_due(id(0), 200_000, 200_000));
        assert_eq!((seen.ids.len(), seen.by_age.len()), (1, 1));
    }
}
