//! The Redis channels of a subscribe link: which are wanted, which stand, and the commands in
//! flight between the two. Sans-IO. While as many are in flight as may be, wishes gather, so the
//! next command carries many.

mod entry;

mod flights;

mod next;

mod rests;

mod wishes;

use std::{collections::HashMap, mem};

use bytes::{Bytes, BytesMut};
use dunlin_core::channel::ChannelName;
use foldhash::quality::RandomState;
use tokio::time::Instant;

use self::{
    entry::{Entry, State},
    flights::Flights,
    rests::Rests,
    wishes::{Kind, Wishes},
};
use crate::{
    keys::Keys,
    lane::probe_channel::ProbeChannel,
    link::command,
    partition::{Partition, Partitions},
};

/// See the module's text.
pub(crate) struct Channels {
    keys: Keys,
    entries: HashMap<Bytes, Entry, RandomState>,
    /// How many of them are wanted, but for the probe.
    wanted: usize,
    /// Exactly the channels that are wanted and absent or doubted, those in `one_by_one` excepted.
    to_subscribe: Wishes,
    /// Exactly the channels that have to go and were not asked to.
    to_unsubscribe: Wishes,
    /// Channels that are asked for alone: the probe, without which nothing is proved, and those of
    /// a command that Redis refused as a whole.
    one_by_one: Vec<Bytes>,
    flights: Flights,
    last_verb: Verb,
    rests: Rests,
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
    /// So does the probe.
    ProbeStands,
    /// Redis ended a subscription that was wanted; it is asked for again.
    Ended(ChannelName),
    /// Nothing to tell anyone.
    Nothing,
}

/// What cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Channel(ChannelName),
    Probe,
    /// Nobody has to be told: each of many is asked for alone, or it was to go.
    Nothing,
}

impl Channels {
    pub(crate) fn new(keys: Keys) -> Self {
        let flights = Flights::new(keys.pub_sub());
        Self {
            keys,
            entries: HashMap::default(),
            wanted: 0,
            to_subscribe: Wishes::default(),
            to_unsubscribe: Wishes::default(),
            one_by_one: Vec::new(),
            flights,
            last_verb: Verb::Unsubscribe,
            rests: Rests::default(),
        }
    }

    /// Starts anew on a fresh connection, where nothing stands. The probe, if it is here, is asked
    /// for first.
    pub(crate) fn restart(&mut self, probe: Option<&ProbeChannel>) {
        *self = Self::new(self.keys.clone());
        probe.into_iter().for_each(|probe| self.want_probe(probe));
    }

    /// The probe has gone to another partition.
    pub(crate) fn move_probe(&mut self, from: &Bytes, to: &ProbeChannel) {
        self.unwant_key(from.clone());
        self.want_probe(to);
    }

    fn want_probe(&mut self, probe: &ProbeChannel) {
        let name = probe.name();
        self.entries.insert(name.clone(), Entry::new(None, probe.group()));
        self.one_by_one.push(name.clone());
    }

    /// How many channels are wanted.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Notes a wish for a channel. True when it stands already.
    pub(crate) fn want(&mut self, name: &ChannelName) -> bool {
        self.note_wish(Kind::New, name)
    }

    /// The same of a channel that stood before, or elsewhere, and comes after the new ones.
    pub(crate) fn want_back(&mut self, name: &ChannelName) -> bool {
        self.note_wish(Kind::Back, name)
    }

    /// If the channel is to be asked for, it is with the new ones.
    pub(crate) fn hurry(&mut self, name: &ChannelName) {
        self.to_subscribe.hurry(self.keys.group(name), self.keys.channel(name));
    }

    fn note_wish(&mut self, kind: Kind, name: &ChannelName) -> bool {
        let key = self.keys.channel(name);
        let group = self.keys.group(name);
        let unknown = || Entry { is_wanted: false, ..Entry::new(Some(name.clone()), group) };
        let entry = self.entries.entry(key.clone()).or_insert_with(unknown);
        let was_wanted = mem::replace(&mut entry.is_wanted, true);
        self.wanted += usize::from(!was_wanted);
        match entry.state {
            State::Absent if !was_wanted => self.to_subscribe.insert(group, kind, key),
            State::Absent | State::Doubted if kind == Kind::New => {
                self.to_subscribe.hurry(group, key);
            }
            State::Standing => {
                self.to_unsubscribe.remove(group, &key);
                return true;
            }
            _ => {}
        }
        false
    }

    /// Notes that nobody wants a channel any more.
    pub(crate) fn unwant(&mut self, name: &ChannelName) {
        self.unwant_key(self.keys.channel(name));
    }

    fn unwant_key(&mut self, key: Bytes) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let was_wanted = mem::replace(&mut entry.is_wanted, false);
        self.wanted -= usize::from(was_wanted && entry.name.is_some());
        match entry.state {
            State::Absent => {
                self.to_subscribe.remove(entry.group, &key);
                self.entries.remove(&key);
            }
            State::Standing => self.to_unsubscribe.insert(entry.group, Kind::New, key),
            State::Doubted => {
                entry.state = State::Unsubscribing;
                self.to_subscribe.remove(entry.group, &key);
                self.to_unsubscribe.insert(entry.group, Kind::New, key);
            }
            State::Subscribing | State::Unsubscribing => {}
        }
    }

    /// A partition has come to this lane: there is no use in waiting any more.
    pub(crate) fn arrive(&mut self, partition: Partition) {
        self.rests.forget(partition);
    }

    /// Partitions have gone to another link: what still comes of their channels is nobody's, and
    /// one that comes back is asked for anew.
    pub(crate) fn leave(&mut self, partitions: &[Partition]) {
        let Self { entries, to_subscribe, to_unsubscribe, wanted, .. } = self;
        let left: Partitions = partitions.iter().collect();
        entries.retain(|key, entry| {
            let Some(name) = &entry.name else { return true };
            if !left.have(name) {
                return true;
            }
            *wanted -= usize::from(mem::replace(&mut entry.is_wanted, false));
            match entry.state {
                State::Absent => to_subscribe.remove(entry.group, key),
                State::Standing | State::Doubted => {
                    entry.state = State::Unsubscribing;
                    to_subscribe.remove(entry.group, key);
                    to_unsubscribe.insert(entry.group, Kind::New, key.clone());
                }
                State::Subscribing | State::Unsubscribing => {}
            }
            entry.state != State::Absent
        });
        partitions.iter().for_each(|partition| self.rests.forget(*partition));
    }

    /// Who gets a message that came, if anyone wants it: the channel, and the caller's note on it,
    /// which batch gathers its messages, and in which turn.
    pub(crate) fn receiver(&mut self, key: &[u8]) -> Option<(&ChannelName, &mut (u64, usize))> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.is_wanted)?;
        Some((entry.name.as_ref()?, &mut entry.batch))
    }

    /// Writes the next command, if there is something to ask for now and room in flight. Returns
    /// how many commands that are.
    pub(crate) fn write_next(&mut self, out: &mut BytesMut, now: Instant) -> usize {
        let next = if self.flights.has_room() { self.next_command(now) } else { None };
        let Some((verb, keys)) = next else { return 0 };
        self.last_verb = verb;
        command::begin(out, keys.len() + 1);
        command::write_argument(out, &[self.keys.pub_sub().command(verb)]);
        for key in &keys {
            command::write_argument(out, &[key]);
            if let Some(entry) = self.entries.get_mut(key) {
                entry.state = match verb {
                    Verb::Subscribe => State::Subscribing,
                    Verb::Unsubscribe => State::Unsubscribing,
                };
            }
        }
        if self.flights.is_fenced(verb) {
            command::write(out, &[b"PING"]);
        }
        let before = self.unanswered();
        self.flights.push(verb, keys);
        self.unanswered() - before
    }

    /// When there is something to ask for that has to wait.
    pub(crate) fn next_try(&self, now: Instant) -> Option<Instant> {
        self.rests.next_end(now)
    }

    /// How many commands are not answered whole yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.flights.unanswered()
    }

    /// Takes a confirmation, asked for or not, by what it says and not by when it comes.
    pub(crate) fn confirm(&mut self, verb: Verb, key: &[u8]) -> Confirmed {
        let Some(entry) = self.entries.get_mut(key) else { return Confirmed::Nothing };
        match (verb, entry.state) {
            (Verb::Subscribe, State::Subscribing) => {
                entry.state = State::Standing;
                let confirmed = match &entry.name {
                    None => Confirmed::ProbeStands,
                    Some(name) if entry.is_wanted => Confirmed::Stands(name.clone()),
                    Some(_) => {
                        self.to_unsubscribe.insert(
                            entry.group,
                            Kind::New,
                            Bytes::copy_from_slice(key),
                        );
                        Confirmed::Nothing
                    }
                };
                self.rests.forget(entry.group);
                self.flights.land(verb);
                confirmed
            }
            (Verb::Unsubscribe, State::Unsubscribing) => {
                self.to_unsubscribe.remove(entry.group, key);
                self.leave_absent(key);
                self.flights.land(verb);
                Confirmed::Nothing
            }
            (Verb::Unsubscribe, State::Standing | State::Doubted) => {
                let name = entry.name.clone().filter(|_| entry.is_wanted);
                self.to_unsubscribe.remove(entry.group, key);
                self.leave_absent(key);
                name.map_or(Confirmed::Nothing, Confirmed::Ended)
            }
            _ => Confirmed::Nothing,
        }
    }

    /// Takes the answer to a PING of this table; false if none is due.
    pub(crate) fn pass_fence(&mut self) -> bool {
        self.flights.pass_fence()
    }

    /// Takes an error. Of a command of many each channel is asked for alone before anybody is told.
    pub(crate) fn refuse(&mut self) -> Refused {
        let Some((verb, keys)) = self.flights.take_refused() else { return Refused::Nothing };
        let is_alone = keys.len() == 1;
        let mut refused = Refused::Nothing;
        for key in keys {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            match (verb, entry.state) {
                (Verb::Subscribe, State::Subscribing) if !is_alone && entry.is_wanted => {
                    entry.state = State::Absent;
                    self.one_by_one.push(key);
                }
                (Verb::Subscribe, State::Subscribing) => {
                    self.wanted -= usize::from(entry.is_wanted && entry.name.is_some());
                    if is_alone {
                        refused = entry.name.clone().map_or(Refused::Probe, Refused::Channel);
                    }
                    self.entries.remove(&key);
                }
                // A subscription that cannot be ended is forgotten; its messages are dropped.
                (Verb::Unsubscribe, State::Unsubscribing) => self.leave_absent(&key),
                _ => {}
            }
        }
        refused
    }

    /// Takes an error that tells that the partition is elsewhere or nowhere now: it is asked for
    /// again later. A server that `has_none` of it has ended what stood there.
    pub(crate) fn postpone(&mut self, has_none: bool, now: Instant) {
        let Some((verb, keys)) = self.flights.take_refused() else { return };
        for key in keys {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            self.rests.begin(entry.group, now);
            match (verb, entry.state) {
                (Verb::Subscribe, State::Subscribing)
                | (Verb::Unsubscribe, State::Unsubscribing) => {
                    if has_none {
                        self.leave_absent(&key);
                    } else if entry.is_wanted {
                        self.ask_again(&key, State::Doubted);
                    } else {
                        entry.state = State::Unsubscribing;
                        self.to_unsubscribe.insert(entry.group, Kind::New, key);
                    }
                }
                _ => {}
            }
        }
    }

    /// Nothing stands there now: asks again if it is wanted, else forgets it.
    fn leave_absent(&mut self, key: &[u8]) {
        if self.entries.get(key).is_some_and(|entry| entry.is_wanted) {
            self.ask_again(key, State::Absent);
        } else {
            self.entries.remove(key);
        }
    }

    fn ask_again(&mut self, key: &[u8], state: State) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.state = state;
        let key = Bytes::copy_from_slice(key);
        match entry.name {
            Some(_) => self.to_subscribe.insert(entry.group, Kind::Back, key),
            None => self.one_by_one.push(key),
        }
    }
}

#[cfg(test)]
mod tests;
