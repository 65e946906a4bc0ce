//! The Redis channels of a subscribe link: which are wanted, which stand, and the one command in
//! flight between the two. Sans-IO. While a command is in flight wishes gather, so the next command
//! carries them all; and an error can only mean the command in flight.

use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use dunlin_core::channel::ChannelName;
use foldhash::quality::RandomState;

use crate::{keys::Keys, link::command};

/// See the module's text.
pub(crate) struct Channels {
    keys: Keys,
    entries: HashMap<Bytes, Entry, RandomState>,
    /// Exactly the channels that are wanted and absent, those in `one_by_one` excepted.
    to_subscribe: HashSet<Bytes, RandomState>,
    /// Exactly the channels that stand and are not wanted.
    to_unsubscribe: HashSet<Bytes, RandomState>,
    /// Channels of a command that Redis refused as a whole; each is asked for alone.
    one_by_one: Vec<Bytes>,
    flight: Option<Flight>,
    last_verb: Verb,
}

/// A channel of the table.
pub(crate) struct Entry {
    /// Its name on this side.
    pub(crate) name: ChannelName,
    /// The caller's note: which batch gathers its messages, and in which turn.
    pub(crate) batch: (u64, usize),
    is_wanted: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Subscribing,
    Standing,
    Unsubscribing,
}

struct Flight {
    verb: Verb,
    keys: Vec<Bytes>,
    unconfirmed: usize,
}

/// What a command asks and its confirmations confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Subscribe,
    Unsubscribe,
}

/// What a confirmation means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// A wanted channel stands.
    Stands(ChannelName),
    /// Redis ended a subscription that was wanted; it is asked for again.
    Ended(ChannelName),
    /// Nothing to tell anyone.
    Nothing,
}

impl Channels {
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            keys,
            entries: HashMap::default(),
            to_subscribe: HashSet::default(),
            to_unsubscribe: HashSet::default(),
            one_by_one: Vec::new(),
            flight: None,
            last_verb: Verb::Unsubscribe,
        }
    }

    /// Starts anew on a fresh connection, where nothing stands, with these channels wanted.
    pub(crate) fn restart(&mut self, wanted: impl IntoIterator<Item = ChannelName>) {
        *self = Self::new(self.keys.clone());
        for name in wanted {
            self.want(&name);
        }
    }

    /// Notes a wish for a channel. True when it stands already.
    pub(crate) fn want(&mut self, name: &ChannelName) -> bool {
        let key = self.keys.channel(name);
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
            name: name.clone(),
            batch: (0, 0),
            is_wanted: false,
            state: State::Absent,
        });
        let was_wanted = std::mem::replace(&mut entry.is_wanted, true);
        match entry.state {
            State::Absent if !was_wanted => {
                self.to_subscribe.insert(key);
            }
            State::Standing => {
                self.to_unsubscribe.remove(&key);
                return true;
            }
            _ => {}
        }
        false
    }

    /// Notes that nobody wants a channel any more.
    pub(crate) fn unwant(&mut self, name: &ChannelName) {
        let key = self.keys.channel(name);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.is_wanted = false;
        match entry.state {
            State::Absent => {
                self.to_subscribe.remove(&key);
                self.entries.remove(&key);
            }
            State::Standing => {
                self.to_unsubscribe.insert(key);
            }
            State::Subscribing | State::Unsubscribing => {}
        }
    }

    /// Whether every wanted channel stands.
    pub(crate) fn all_stand(&self) -> bool {
        let is_subscribing = self.flight.as_ref().is_some_and(|f| f.verb == Verb::Subscribe);
        self.to_subscribe.is_empty() && self.one_by_one.is_empty() && !is_subscribing
    }

    /// The channel's entry, for a message that came.
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// Whether a command is unanswered.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Writes the next command, if there is something to ask for and nothing in flight. True when
    /// it did.
    pub(crate) fn write_next(&mut self, out: &mut BytesMut) -> bool {
        if self.flight.is_some() {
            return false;
        }
        let Some((verb, keys)) = self.next_command() else { return false };
        self.last_verb = verb;
        command::begin(out, keys.len() + 1);
        let name: &[u8] = if verb == Verb::Subscribe { b"SUBSCRIBE" } else { b"UNSUBSCRIBE" };
        command::write_argument(out, &[name]);
        for key in &keys {
            command::write_argument(out, &[key]);
            if let Some(entry) = self.entries.get_mut(key) {
                entry.state = match verb {
                    Verb::Subscribe => State::Subscribing,
                    Verb::Unsubscribe => State::Unsubscribing,
                };
            }
        }
        self.flight = Some(Flight { verb, unconfirmed: keys.len(), keys });
        true
    }

    /// Takes a confirmation, asked for or not, by what it says and not by when it comes.
    pub(crate) fn confirm(&mut self, verb: Verb, key: &[u8]) -> Confirmed {
        let Some(entry) = self.entries.get_mut(key) else { return Confirmed::Nothing };
        match (verb, entry.state) {
            (Verb::Subscribe, State::Subscribing) => {
                entry.state = State::Standing;
                let confirmed = if entry.is_wanted {
                    Confirmed::Stands(entry.name.clone())
                } else {
                    self.to_unsubscribe.insert(Bytes::copy_from_slice(key));
                    Confirmed::Nothing
                };
                self.land();
                confirmed
            }
            (Verb::Unsubscribe, State::Unsubscribing) => {
                self.leave_absent(key);
                self.land();
                Confirmed::Nothing
            }
            (Verb::Unsubscribe, State::Standing) => {
                let name = entry.is_wanted.then(|| entry.name.clone());
                self.to_unsubscribe.remove(key);
                self.leave_absent(key);
                name.map_or(Confirmed::Nothing, Confirmed::Ended)
            }
            _ => Confirmed::Nothing,
        }
    }

    /// Takes an error, which can only be the answer to the command in flight. Returns the channel
    /// that cannot be had; of a command of many each is asked for alone first.
    pub(crate) fn refuse(&mut self) -> Option<ChannelName> {
        let flight = self.flight.take()?;
        let is_alone = flight.keys.len() == 1;
        let mut refused = None;
        for key in flight.keys {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            match (flight.verb, entry.state) {
                (Verb::Subscribe, State::Subscribing) if !is_alone && entry.is_wanted => {
                    entry.state = State::Absent;
                    self.one_by_one.push(key);
                }
                (Verb::Subscribe, State::Subscribing) => {
                    refused = is_alone.then(|| entry.name.clone());
                    self.entries.remove(&key);
                }
                // A subscription that cannot be ended is forgotten; its messages are dropped.
                (Verb::Unsubscribe, State::Unsubscribing) => self.leave_absent(&key),
                _ => {}
            }
        }
        refused
    }

    /// Alternates while there is both to do, so that neither starves the other.
    fn next_command(&mut self) -> Option<(Verb, Vec<Bytes>)> {
        let is_unsubscribes_turn = self.last_verb == Verb::Subscribe;
        if is_unsubscribes_turn && !self.to_unsubscribe.is_empty() {
            return Some((Verb::Unsubscribe, take_some(&mut self.to_unsubscribe)));
        }
        if let Some(key) = self.next_alone() {
            return Some((Verb::Subscribe, vec![key]));
        }
        if !self.to_subscribe.is_empty() {
            return Some((Verb::Subscribe, take_some(&mut self.to_subscribe)));
        }
        let is_any_left = !self.to_unsubscribe.is_empty();
        is_any_left.then(|| (Verb::Unsubscribe, take_some(&mut self.to_unsubscribe)))
    }

    fn next_alone(&mut self) -> Option<Bytes> {
        while let Some(key) = self.one_by_one.pop() {
            // A wish withdrawn in the meantime took the entry with it; one renewed after that is in
            // the set of wishes too.
            if self.entries.get(&key).is_some_and(|entry| entry.state == State::Absent) {
                self.to_subscribe.remove(&key);
                return Some(key);
            }
        }
        None
    }

    /// Nothing stands there now: asks again if it is wanted, else forgets it.
    fn leave_absent(&mut self, key: &[u8]) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.is_wanted {
            entry.state = State::Absent;
            self.to_subscribe.insert(Bytes::copy_from_slice(key));
        } else {
            self.entries.remove(key);
        }
    }

    /// One more channel of the command in flight is confirmed.
    fn land(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.unconfirmed -= 1;
            if flight.unconfirmed == 0 {
                self.flight = None;
            }
        }
    }
}

fn take_some(set: &mut HashSet<Bytes, RandomState>) -> Vec<Bytes> {
    let some: Vec<Bytes> = set.iter().take(CHANNELS_PER_COMMAND).cloned().collect();
    for key in &some {
        set.remove(key);
    }
    some
}

/// Small enough that other clients of the server do not wait for one command.
const CHANNELS_PER_COMMAND: usize = 512;

#[cfg(test)]
mod tests;
