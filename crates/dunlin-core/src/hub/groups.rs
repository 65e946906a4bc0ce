//! The subscribers of a channel by how they are served: those of a group get the same bytes.

use std::{collections::HashMap, mem};

use foldhash::quality::RandomState;

use super::{Manner, Subscriber, index};

/// The groups of a channel. A group keeps its number while it has subscribers.
#[derive(Debug)]
pub(super) struct Groups {
    /// An empty one is a place for the next.
    all: Vec<Group>,
    /// Made when there are many: nearly all channels have one or a few.
    table: Option<Box<Table>>,
}

#[derive(Debug)]
struct Group {
    manner: Manner,
    subscribers: Vec<Subscriber>,
}

/// What finds a group among many.
#[derive(Debug, Default)]
struct Table {
    /// Of those that have subscribers.
    by_manner: HashMap<Manner, u32, RandomState>,
    /// The others.
    free: Vec<u32>,
    subscriber_count: usize,
}

/// Up to so many groups are looked through one by one.
const FEW: usize = 8;

impl Groups {
    pub(super) fn new() -> Self {
        Self { all: Vec::with_capacity(1), table: None }
    }

    /// How many there are, empty ones included.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn manner(&self, group: usize) -> Option<&Manner> {
        self.all.get(group).map(|group| &group.manner)
    }

    pub(super) fn manners(&self) -> impl Iterator<Item = &Manner> {
        self.all.iter().map(|group| &group.manner)
    }

    /// The subscribers of a group; none of one that is not there.
    pub(super) fn subscribers(&self, group: usize) -> &[Subscriber] {
        self.all.get(group).map_or(&[], |group| &group.subscribers)
    }

    /// Everyone.
    pub(super) fn everyone(&self) -> impl Iterator<Item = &Subscriber> {
        self.all.iter().flat_map(|group| &group.subscribers)
    }

    pub(super) fn subscriber_count(&self) -> usize {
        match &self.table {
            Some(table) => table.subscriber_count,
            None => self.all.iter().map(|group| group.subscribers.len()).sum(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscriber_count() == 0
    }

    /// Adds a subscriber to those who are served in this manner. Returns the group and its place
    /// there.
    pub(super) fn add(&mut self, manner: &Manner, subscriber: Subscriber) -> (u32, u32) {
        let group = self.find(manner).unwrap_or_else(|| self.begin(manner));
        if let Some(table) = &mut self.table {
            table.subscriber_count += 1;
        }
        let subscribers = &mut self.all[group as usize].subscribers;
        subscribers.push(subscriber);
        (group, index(subscribers.len() - 1))
    }

    /// Removes the subscriber at a place of a group. Returns the one that has that place now.
    pub(super) fn remove(&mut self, group: u32, place: u32) -> Option<Subscriber> {
        let subscribers = &mut self.all[group as usize].subscribers;
        subscribers.swap_remove(place as usize);
        let moved = subscribers.get(place as usize).copied();
        self.note_removed(group, 1);
        moved
    }

    /// Removes all subscribers of a group.
    pub(super) fn take(&mut self, group: usize) -> Vec<Subscriber> {
        let taken = mem::take(&mut self.all[group].subscribers);
        if !taken.is_empty() {
            self.note_removed(index(group), taken.len());
        }
        taken
    }

    fn find(&self, manner: &Manner) -> Option<u32> {
        match &self.table {
            Some(table) => table.by_manner.get(manner).copied(),
            None => self.all.iter().position(|group| group.manner == *manner).map(index),
        }
    }

    /// A new group, in a free place if there is one.
    fn begin(&mut self, manner: &Manner) -> u32 {
        if self.table.is_none() && self.all.len() == FEW {
            self.table = Some(Box::new(Table::of(&self.all)));
        }
        let free = match &mut self.table {
            Some(table) => table.free.pop(),
            None => self.all.iter().position(|group| group.subscribers.is_empty()).map(index),
        };
        let begun = Group { manner: manner.clone(), subscribers: Vec::new() };
        let group = free.unwrap_or_else(|| index(self.all.len()));
        match self.all.get_mut(group as usize) {
            Some(place) => *place = begun,
            None => self.all.push(begun),
        }
        if let Some(table) = &mut self.table {
            table.by_manner.insert(manner.clone(), group);
        }
        group
    }

    fn note_removed(&mut self, group: u32, count: usize) {
        let Some(table) = &mut self.table else { return };
        table.subscriber_count -= count;
        let emptied = &self.all[group as usize];
        if emptied.subscribers.is_empty() {
            table.by_manner.remove(&emptied.manner);
            table.free.push(group);
        }
    }
}

impl Table {
    fn of(groups: &[Group]) -> Self {
        let mut table = Self::default();
        for (number, group) in groups.iter().enumerate() {
            table.subscriber_count += group.subscribers.len();
            match group.subscribers.is_empty() {
                true => table.free.push(index(number)),
                false => drop(table.by_manner.insert(group.manner.clone(), index(number))),
            }
        }
        table
    }
}
