//! What is asked for next.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Channels, Verb,
    entry::{Entry, State},
};

impl Channels {
    /// Alternates while there is both to do, so that neither starves the other.
    pub(super) fn next_command(&mut self, now: Instant) -> Option<(Verb, Vec<Bytes>)> {
        let is_unsubscribes_turn = self.last_verb == Verb::Subscribe;
        let first = is_unsubscribes_turn.then(|| self.next_unsubscribe(now)).flatten();
        first.or_else(|| self.next_subscribe(now)).or_else(|| self.next_unsubscribe(now))
    }

    fn next_unsubscribe(&mut self, now: Instant) -> Option<(Verb, Vec<Bytes>)> {
        let keys = self.to_unsubscribe.take_some(|group| self.rests.may_ask(group, now))?;
        Some((Verb::Unsubscribe, keys))
    }

    fn next_subscribe(&mut self, now: Instant) -> Option<(Verb, Vec<Bytes>)> {
        let keys = match self.next_alone(now) {
            Some(key) => vec![key],
            None => self.to_subscribe.take_some(|group| self.rests.may_ask(group, now))?,
        };
        Some((Verb::Subscribe, keys))
    }

    fn next_alone(&mut self, now: Instant) -> Option<Bytes> {
        let mut resting = Vec::new();
        let mut next = None;
        while let Some(key) = self.one_by_one.pop() {
            // A wish withdrawn in the meantime took the entry with it; one renewed after that is in
            // the set of wishes too.
            let is_due = |it: &&Entry| matches!(it.state, State::Absent | State::Doubted);
            let Some(entry) = self.entries.get(&key).filter(is_due) else { continue };
            self.to_subscribe.remove(entry.group, &key);
            if self.rests.may_ask(entry.group, now) {
                next = Some(key);
                break;
            }
            resting.push(key);
        }
        self.one_by_one.append(&mut resting);
        next
    }
}
