//! Channels to ask for, by what may stand in one command: those that were wished first come first.

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
    numbers: HashMap<Bytes, u64, RandomState>,
    keys: BTreeMap<u64, Bytes>,
}

impl Wishes {
    pub(super) fn insert(&mut self, group: Partition, key: Bytes) {
        let Group { numbers, keys } = self.groups.entry(group).or_default();
        self.last_number += 1;
        let number = *numbers.entry(key.clone()).or_insert(self.last_number);
        keys.insert(number, key);
    }

    pub(super) fn remove(&mut self, group: Partition, key: &[u8]) {
        let Some(Group { numbers, keys }) = self.groups.get_mut(&group) else { return };
        if let Some(number) = numbers.remove(key) {
            keys.remove(&number);
        }
        if keys.is_empty() {
            self.groups.remove(&group);
        }
    }

    /// Takes what one command can carry, of the group that `may` be asked for and has waited
    /// longest.
    pub(super) fn take_some(&mut self, may: impl Fn(Partition) -> bool) -> Option<Vec<Bytes>> {
        let groups = self.groups.iter_mut().filter(|(group, _)| may(**group));
        let (&group, oldest) = groups.min_by_key(|(_, group)| group.keys.keys().next().copied())?;
        let some: Vec<Bytes> = std::iter::from_fn(|| oldest.keys.pop_first())
            .take(CHANNELS_PER_COMMAND)
            .map(|(_, key)| key)
            .collect();
        for key in &some {
            oldest.numbers.remove(key);
        }
        if oldest.keys.is_empty() {
            self.groups.remove(&group);
        }
        Some(some)
    }
}

/// Small enough that other clients of the server do not wait for one command.
const CHANNELS_PER_COMMAND: usize = 512;
