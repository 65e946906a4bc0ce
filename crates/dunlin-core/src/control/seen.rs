//! Which orders a node has seen: each is obeyed once. No clock is asked: the broker keeps orders
//! for as long as they count, by its own time, and the last of them are remembered here.

use std::collections::{HashSet, VecDeque};

use foldhash::quality::RandomState;

use super::{MessageId, ORDERS_KEPT};

/// The last orders.
#[derive(Debug, Default)]
pub struct Seen {
    ids: HashSet<MessageId, RandomState>,
    /// In the order in which they came.
    by_age: VecDeque<MessageId>,
}

impl Seen {
    /// Orders remembered: all that can come again are among those that the broker keeps.
    const COUNT_MAX: usize = 4 * ORDERS_KEPT.size;

    /// Whether an order comes for the first time.
    pub fn is_new(&mut self, id: MessageId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.by_age.push_back(id);
        if self.by_age.len() > Self::COUNT_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    fn id(number: usize) -> MessageId {
        MessageId { node: NodeId::new(7), number: number as u64 }
    }

    #[test]
    fn an_order_is_new_once() {
        let mut seen = Seen::default();
        for number in 0..ORDERS_KEPT.size {
            assert!(seen.is_new(id(number)));
        }
        assert!((0..ORDERS_KEPT.size).all(|number| !seen.is_new(id(number))));
    }

    #[test]
    fn what_cannot_come_again_is_forgotten() {
        let mut seen = Seen::default();
        assert!((0..100_000).all(|number| seen.is_new(id(number))));
        assert_eq!((seen.ids.len(), seen.by_age.len()), (Seen::COUNT_MAX, Seen::COUNT_MAX));
        assert!(!seen.is_new(id(99_999)) && seen.is_new(id(0)));
    }
}
