//! The users of a shard and their connections.

use std::{collections::HashMap, sync::Arc};

use dunlin_core::limits::{Deed, Rates, SharedDeeds};
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

/// Which connections a user has on one shard.
#[derive(Default)]
pub(crate) struct Users {
    slots: HashMap<Arc<str>, SmallVec<[u32; 4]>, RandomState>,
}

impl Users {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

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

/// How many connections each user has on this node, and what they do together, where that is
/// bounded.
pub(crate) struct UserCounts {
    connections: Mutex<HashMap<Arc<str>, usize, RandomState>>,
    deeds: SharedDeeds<Arc<str>>,
    started_at: Instant,
}

impl UserCounts {
    pub(crate) fn new(rates: Rates) -> Self {
        let deeds = SharedDeeds::new(rates);
        Self { connections: Mutex::default(), deeds, started_at: Instant::now() }
    }

    /// Counts one more connection of `user`, unless there are `max` already.
    pub(crate) fn enter(&self, user: &Arc<str>, max: usize) -> bool {
        let mut counts = self.connections.lock();
        let count = counts.entry(Arc::clone(user)).or_default();
        let is_allowed = *count < max;
        if is_allowed {
            *count += 1;
        }
        is_allowed
    }

    /// Counts one less.
    pub(crate) fn leave(&self, user: &str) {
        let mut counts = self.connections.lock();
        if let Some(count) = counts.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(user);
            }
        }
    }

    /// Counts a deed of `user`, unless it was done too often.
    pub(crate) fn may(&self, user: &Arc<str>, deed: Deed, count: u32) -> bool {
        self.is_nobody(user) || self.deeds.may(user, 1, deed, count, self.now_ms())
    }

    /// Counts a deed of `user`; says for how many milliseconds it was done too often now.
    pub(crate) fn count(&self, user: &Arc<str>, deed: Deed, count: u32) -> u64 {
        match self.is_nobody(user) {
            true => 0,
            false => self.deeds.count(user, 1, deed, count, self.now_ms()),
        }
    }

    /// How many times `user` may do it now.
    pub(crate) fn left(&self, user: &Arc<str>, deed: Deed) -> u32 {
        match self.is_nobody(user) {
            true => u32::MAX,
            false => self.deeds.left(user, 1, deed, self.now_ms()),
        }
    }

    /// Whether nothing is counted, or it is for anybody: all who have no user.
    fn is_nobody(&self, user: &str) -> bool {
        self.deeds.is_off() || user.is_empty()
    }

    fn now_ms(&self) -> u64 {
        self.started_at.elapsed().as_millis() as u64
    }
}
