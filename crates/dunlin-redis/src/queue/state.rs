//! What waits, in its order.

use std::{collections::VecDeque, mem, time::Duration};

use super::{Phase, Waiting, held::Held, transit::Transit};
use crate::partition::Partition;

/// See the module's text.
pub(super) struct State {
    /// What was sent and has to be sent again; it goes before all that waits.
    pub(super) returned: VecDeque<Waiting>,
    pub(super) waiting: VecDeque<Waiting>,
    /// What may not be sent yet, though others may; it goes between the two.
    pub(super) held: Held,
    pub(super) transit: Transit,
    /// Of all.
    pub(super) bytes: usize,
    pub(super) phase: Phase,
}

impl State {
    /// The oldest of each kind.
    pub(super) fn fronts(&self) -> impl Iterator<Item = &Waiting> {
        let takeable = self.returned.front().into_iter().chain(self.waiting.front());
        takeable.chain(self.held.waiting.front())
    }

    pub(super) fn can_take(&self) -> bool {
        !self.returned.is_empty() || !self.waiting.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let next = self.returned.pop_front().or_else(|| self.waiting.pop_front())?;
        self.bytes -= next.bytes();
        Some(next)
    }

    pub(super) fn pop_expired(&mut self, age: Duration) -> Option<Waiting> {
        let is_old = |oldest: &Waiting| oldest.since.elapsed() >= age;
        for queue in [&mut self.returned, &mut self.waiting] {
            if queue.front().is_some_and(is_old) {
                let expired = queue.pop_front()?;
                self.bytes -= expired.bytes();
                return Some(expired);
            }
        }
        let expired = self.held.waiting.front().is_some_and(is_old).then(|| self.held.pop())??;
        self.bytes -= expired.bytes();
        Some(expired)
    }

    pub(super) fn put_back(&mut self, returned: impl DoubleEndedIterator<Item = Waiting>) {
        // They go before what is held.
        self.release();
        for waiting in returned.rev() {
            self.bytes += waiting.bytes();
            self.returned.push_front(waiting);
        }
    }

    pub(super) fn release(&mut self) {
        for released in mem::take(&mut self.held).waiting.into_iter().rev() {
            self.waiting.push_front(released);
        }
    }

    /// Takes out all of a partition, in their order.
    pub(super) fn extract(&mut self, partition: Partition) -> Vec<Waiting> {
        let is_there = |it: &Waiting| it.partition() == partition;
        let mut all = extract(&mut self.returned, is_there);
        all.extend(self.held.extract(is_there));
        all.extend(extract(&mut self.waiting, is_there));
        self.bytes -= all.iter().map(Waiting::bytes).sum::<usize>();
        all
    }

    /// Sets a publish aside that may not be sent yet.
    pub(super) fn hold(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.held.push(waiting);
    }
}

pub(super) fn extract(
    queue: &mut VecDeque<Waiting>,
    is_it: impl Fn(&Waiting) -> bool,
) -> Vec<Waiting> {
    let (extracted, rest): (Vec<_>, Vec<_>) = mem::take(queue).into_iter().partition(is_it);
    *queue = rest.into();
    extracted
}
