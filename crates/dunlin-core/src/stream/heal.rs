//! The healing of a stream: what comes meanwhile, and what of it the broker's answer settles.

use std::{mem, sync::Arc};

use crate::{position::Position, publication::Publication};

/// Publications that may wait while a gap is healed, and bytes of them; beyond it those that have a
/// position are read anew, and the others are let through.
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
    /// Tells one heal of a stream from the next.
    number: u64,
    /// How many pages were let through.
    pages: u64,
    is_paused: bool,
}

impl Heal {
    /// A heal with this number.
    pub(super) fn begun(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// Begins anew with this number; the broker is asked after all that waits.
    pub(super) fn begin(&mut self, number: u64) {
        (self.number, self.is_paused) = (number, false);
        self.ask_after_all();
    }

    /// The broker is away; what waits goes on waiting.
    pub(super) fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Its number and pages; none while it is paused.
    pub(super) fn progress(&self) -> Option<(u64, u64)> {
        (!self.is_paused).then_some((self.number, self.pages))
    }

    pub(super) fn note_page(&mut self) {
        self.pages += 1;
    }

    /// The broker is asked after all that waits, perhaps anew.
    pub(super) fn ask_after_all(&mut self) {
        self.asked_after = self.waiting.len();
    }

    /// Whether something that should wait did not find room.
    pub(super) fn has_dropped(&self) -> bool {
        self.has_dropped
    }

    /// Lets a batch wait. What no heal brings back is let through when there is no room: it has no
    /// place in the order that it could lose.
    pub(super) fn wait(
        &mut self,
        batch: &[Arc<Publication>],
        through: &mut impl Extend<Arc<Publication>>,
    ) {
        let is_loose = |publication: &Arc<Publication>| publication.position().is_none();
        if self.has_dropped {
            return through.extend(batch.iter().filter(|it| is_loose(it)).cloned());
        }
        self.waiting.extend(batch.iter().map(Publication::kept));
        self.waiting_bytes += batch.iter().map(|it| it.data().len()).sum::<usize>();
        if self.waiting.len() > WAITING_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
            let waiting = mem::take(&mut self.waiting);
            through.extend(waiting.into_iter().filter(is_loose));
            (self.waiting_bytes, self.asked_after, self.has_dropped) = (0, 0, true);
        }
    }

    /// What waits and no heal brings back.
    pub(super) fn into_loose(self) -> Vec<Arc<Publication>> {
        self.waiting.into_iter().filter(|publication| publication.position().is_none()).collect()
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
