//! The healing of a stream: what comes meanwhile, and what of it the broker's answer settles.

use std::sync::Arc;

use crate::{position::Position, publication::Publication};

/// Publications that may wait while a gap is healed, and bytes of them; beyond it they are read
/// anew.
pub(super) const WAITING_MAX: usize = 4096;
const WAITING_BYTES_MAX: usize = 8 << 20;

/// What waits in a stream that is healing.
#[derive(Debug, Default)]
pub(super) struct Heal {
    waiting: Vec<Arc<Publication>>,
    waiting_bytes: usize,
    /// How many of them came before the broker was asked.
    asked_after: usize,
    /// Whether some that should wait did not find room.
    has_dropped: bool,
}

impl Heal {
    /// Lets a batch wait, after which the broker is asked, perhaps anew.
    pub(super) fn ask_after(&mut self, batch: &[Arc<Publication>]) {
        self.wait(batch);
        self.asked_after = self.waiting.len();
    }

    /// Whether something that should wait did not find room.
    pub(super) fn has_dropped(&self) -> bool {
        self.has_dropped
    }

    /// Lets a batch wait.
    pub(super) fn wait(&mut self, batch: &[Arc<Publication>]) {
        let bytes: usize = batch.iter().map(|publication| publication.data().len()).sum();
        self.waiting_bytes += bytes;
        if self.waiting.len() + batch.len() > WAITING_MAX || self.waiting_bytes > WAITING_BYTES_MAX
        {
            *self = Self { has_dropped: true, ..Self::default() };
        } else if !self.has_dropped {
            self.waiting.extend_from_slice(batch);
        }
    }

    /// What the broker's answer settles, since it knew of it, and what comes behind that. What it
    /// knew of another epoch than the one it answered is of a past that is forgotten.
    pub(super) fn split(self, top: Position) -> (Vec<Arc<Publication>>, Vec<Arc<Publication>>) {
        let asked_after = self.asked_after;
        let is_settled = |index: usize, publication: &Publication| match publication.position() {
            None => false,
            Some(position) if position.epoch == top.epoch => position.offset <= top.offset,
            Some(position) => position.epoch.id != top.epoch.id && index < asked_after,
        };
        let (mut settled, mut rest) = (Vec::new(), Vec::new());
        for (index, publication) in self.waiting.into_iter().enumerate() {
            match is_settled(index, &publication) {
                true => settled.push(publication),
                false => rest.push(publication),
            }
        }
        (settled, rest)
    }
}
