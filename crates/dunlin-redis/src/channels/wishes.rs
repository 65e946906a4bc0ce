//! Channels to ask for, by what may stand in one command: new ones before those that come back, of
//! which there may be hundreds of thousands, and of each kind those first that were wished first.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use foldhash::quality::RandomState;

use crate::partition::Partition;

/// See the module's text.
#[derive(Default)]
pub(super) struct Wishes {
    /// No group is empty.
    groups: BTreeMap<Partition, Group>,
    last_number: u64,
}

/// Both tables hold the same.
#[derive(Default)]
struct Group {
    turns: HashMap<Bytes, Turn, RandomState>,
    keys: BTreeMap<Turn, Bytes>,
}

/// When a channel is asked for: the smallest first.
type Turn = (Kind, u64);

/// Whether somebody waits to be told that he is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    New,
    /// It stood before, or elsewhere.
    Back,
}

impl Wishes {
    pub(super) fn insert(&mut self, group: Partition, kind: Kind, key: Bytes) {
        let Group { turns, keys } = self.groups.entry(group).or_default();
        self.last_number += 1;
        let turn = *turns.entry(key.clone()).or_insert((kind, self.last_number));
        keys.insert(turn, key);
    }

    /// Makes a channel that comes back a new one; others stay what they are.
    pub(super) fn hurry(&mut self, group: Partition, key: Bytes) {
        let turn = self.groups.get(&group).and_then(|group| group.turns.get(&key));
        if let Some((Kind::Back, _)) = turn {
            self.remove(group, &key);
            self.insert(group, Kind::New, key);
        }
    }

    pub(super) fn remove(&mut self, group: Partition, key: &[u8]) {
        let Some(Group { turns, keys }) = self.groups.get_mut(&group) else { return };
        if let Some(turn) = turns.remove(key) {
            keys.remove(&turn);
        }
        if keys.is_empty() {
            self.groups.remove(&group);
        }
    }

    /// Takes what one command can carry, of the group that `may` be asked for and whose turn it is.
    pub(super) fn take_some(&mut self, may: impl Fn(Partition) -> bool) -> Option<Vec<Bytes>> {
        let groups = self.groups.iter_mut().filter(|(group, _)| may(**group));
        let (&group, first) = groups.min_by_key(|(_, group)| group.keys.keys().next().copied())?;
        let some: Vec<Bytes> = std::iter::from_fn(|| first.keys.pop_first())
            .take(CHANNELS_PER_COMMAND)
            .map(|(_, key)| key)
            .collect();
        for key in &some {
            first.turns.remove(key);
        }
        if first.keys.is_empty() {
            self.groups.remove(&group);
        }
        Some(some)
    }
}

/// Small enough that other clients of the server do not wait for one command.
const CHANNELS_PER_COMMAND: usize = 512;
