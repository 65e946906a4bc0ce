//! Partitions that the server says are elsewhere, or nowhere at the moment. Nothing is sent to them
//! for a while, and then one publish only: were there more and the server changed its mind between
//! two of them, the second would overtake the first.

use std::cell::Cell;

use dunlin_core::channel::ChannelName;
use tokio::time::Instant;

use crate::{cluster::ELSEWHERE_PAUSE, partition::Partition};

/// See the module's text. Mostly empty.
#[derive(Default)]
pub(super) struct Elsewhere {
    suspects: Vec<Suspect>,
    /// Whether one was cleared since the last look.
    is_any_cleared: bool,
}

struct Suspect {
    partition: Partition,
    trial: Cell<Trial>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// Not before this.
    At(Instant),
    /// With the next publish.
    Due,
    /// By one that has no answer yet.
    Underway,
}

impl Elsewhere {
    /// The server says that a partition is not there.
    pub(super) fn note(&mut self, partition: Partition) {
        let trial = Trial::At(Instant::now() + ELSEWHERE_PAUSE);
        match self.suspects.iter().find(|it| it.partition == partition) {
            Some(suspect) => suspect.trial.set(trial),
            None => self.suspects.push(Suspect { partition, trial: Cell::new(trial) }),
        }
    }

    /// The server has done something there.
    pub(super) fn clear(&mut self, partition: impl FnOnce() -> Partition) {
        if self.suspects.is_empty() {
            return;
        }
        let (partition, count) = (partition(), self.suspects.len());
        self.suspects.retain(|it| it.partition != partition);
        self.is_any_cleared |= self.suspects.len() < count;
    }

    /// Nothing is known of a new connection, or of an answer that nobody waits for any more.
    pub(super) fn clear_all(&mut self) {
        self.is_any_cleared |= !self.suspects.is_empty();
        self.suspects.clear();
    }

    /// All that was sent has its answer: what was to try a partition and was not done tries again.
    pub(super) fn try_anew(&mut self) {
        for suspect in &self.suspects {
            if suspect.trial.get() == Trial::Underway {
                suspect.trial.set(Trial::Due);
            }
        }
    }

    /// Whether a publish may be sent, which counts as sent then.
    pub(super) fn admits(&self, channel: &ChannelName) -> bool {
        if self.suspects.is_empty() {
            return true;
        }
        let partition = Partition::of(channel);
        let Some(suspect) = self.suspects.iter().find(|it| it.partition == partition) else {
            return true;
        };
        let is_due = suspect.trial.get() == Trial::Due;
        if is_due {
            suspect.trial.set(Trial::Underway);
        }
        is_due
    }

    /// Whether something may be sent that could not at the last look.
    pub(super) fn look(&mut self) -> bool {
        let now = Instant::now();
        let mut has_more = std::mem::take(&mut self.is_any_cleared);
        for suspect in &self.suspects {
            if matches!(suspect.trial.get(), Trial::At(then) if then <= now) {
                suspect.trial.set(Trial::Due);
                has_more = true;
            }
        }
        has_more
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Instant> {
        let then = |suspect: &Suspect| match suspect.trial.get() {
            Trial::At(then) => Some(then),
            Trial::Due | Trial::Underway => None,
        };
        self.suspects.iter().filter_map(then).min()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_publish_tries_and_the_rest_follows_its_success() {
        let [here, there] = ["here", "there"].map(|it| ChannelName::new(it).unwrap());
        let partition = Partition::of(&there);
        let mut elsewhere = Elsewhere::default();
        assert!(elsewhere.admits(&there));
        elsewhere.note(partition);
        for _ in 0..2 {
            assert!(elsewhere.admits(&here) && !elsewhere.admits(&there));
            assert_eq!(elsewhere.next(), Some(Instant::now() + ELSEWHERE_PAUSE));
            assert!(!elsewhere.look());
            advance(ELSEWHERE_PAUSE).await;
            assert!(elsewhere.look());
            assert!(elsewhere.admits(&there) && !elsewhere.admits(&there), "one only");
            elsewhere.note(partition);
        }
        advance(ELSEWHERE_PAUSE).await;
        assert!(elsewhere.look() && elsewhere.admits(&there));
        elsewhere.clear(|| Partition::of(&here));
        assert!(!elsewhere.look() && !elsewhere.admits(&there));
        elsewhere.clear(|| partition);
        assert!(elsewhere.look() && elsewhere.admits(&there) && elsewhere.admits(&there));
    }
}
