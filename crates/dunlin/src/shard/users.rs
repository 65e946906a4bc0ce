//! The users of a shard and their connections.

use std::{collections::HashMap, sync::Arc};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;

/// Which connections a user has on one shard.
#[derive(Default)]
pub(crate) struct Users {
    slots: HashMap<Arc<str>, SmallVec<[u32; 4]>, RandomState>,
}

impl Users {
    pub(crate) fn add(&mut self, user: &Arc<str>, slot: u32) {
        self.slots.entry(Arc::clone(user)).or_default().push(slot);
    }

    pub(crate) fn remove(&mut self, user: &str, slot: u32) {
        let Some(slots) = self.slots.get_mut(user) else { return };
        if let Some(place) = slots.iter().position(|taken| *taken == slot) {
            slots.swap_remove(place);
        }
        if slots.is_empty() {
            self.slots.remove(user);
        }
    }

    /// The slots of a user's connections.
    pub(crate) fn of(&self, user: &str) -> impl Iterator<Item = u32> {
        self.slots.get(user).into_iter().flatten().copied()
    }

    /// Everyone who is here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.slots.keys()
    }
}

/// How many connections each user has on this node, where that is bounded.
#[derive(Default)]
pub(crate) struct UserCounts(Mutex<HashMap<Arc<str>, usize, RandomState>>);

impl UserCounts {
    /// Counts one more connection of `user`, unless there are `max` already.
    pub(crate) fn enter(&self, user: &Arc<str>, max: usize) -> bool {
        let mut counts = self.0.lock();
        let count = counts.entry(Arc::clone(user)).or_default();
        let is_allowed = *count < max;
        if is_allowed {
            *count += 1;
        }
        is_allowed
    }

    /// Counts one less.
    pub(crate) fn leave(&self, user: &str) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(user);
            }
        }
    }
}
