//! Commands on their way. A server works on them in their order and confirms each whole or not at
//! all, so an error means the oldest of which nothing is confirmed.
//!
//! The servers of a cluster end subscriptions by themselves when a slot moves or roles change, in
//! the words that confirm an end that was asked for. So there a PING goes behind each command that
//! asks for ends: whatever comes for that command comes before the answer to it.

use std::{collections::VecDeque, mem};

use bytes::Bytes;

use super::Verb;
use crate::keys::PubSub;

/// See the module's text.
pub(super) struct Flights {
    pub_sub: PubSub,
    /// Oldest first.
    flights: VecDeque<Flight>,
}

struct Flight {
    verb: Verb,
    /// None once it was refused.
    keys: Vec<Bytes>,
    /// How many channels have to be confirmed; all of them if a PING tells the end.
    unconfirmed: usize,
}

impl Flights {
    pub(super) fn new(pub_sub: PubSub) -> Self {
        Self { pub_sub, flights: VecDeque::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.flights.len() < FLIGHTS_MAX
    }

    /// Whether a PING goes behind commands of this kind.
    pub(super) fn is_fenced(&self, verb: Verb) -> bool {
        (self.pub_sub, verb) == (PubSub::Sharded, Verb::Unsubscribe)
    }

    /// Notes a command for these channels, and the PING behind it.
    pub(super) fn push(&mut self, verb: Verb, keys: Vec<Bytes>) {
        self.flights.push_back(Flight { verb, unconfirmed: keys.len(), keys });
    }

    /// How many commands are not answered whole yet, PINGs too.
    pub(super) fn unanswered(&self) -> usize {
        let commands = |flight: &Flight| {
            let is_refused = flight.keys.is_empty();
            1 + usize::from(self.is_fenced(flight.verb) && !is_refused)
        };
        self.flights.iter().map(commands).sum()
    }

    /// One more channel of the oldest command of this kind is confirmed.
    pub(super) fn land(&mut self, verb: Verb) {
        if self.is_fenced(verb) {
            return;
        }
        let Some(at) = self.flights.iter().position(|flight| flight.verb == verb) else { return };
        self.flights[at].unconfirmed -= 1;
        if self.flights[at].unconfirmed == 0 {
            self.flights.remove(at);
        }
    }

    /// Takes the answer to a PING; false if none is due.
    pub(super) fn pass_fence(&mut self) -> bool {
        let is_due = self.flights.front().is_some_and(|oldest| self.is_fenced(oldest.verb));
        if is_due {
            self.flights.pop_front();
        }
        is_due
    }

    /// Takes an error: what was refused.
    pub(super) fn take_refused(&mut self) -> Option<(Verb, Vec<Bytes>)> {
        let is_unanswered = |flight: &Flight| flight.unconfirmed == flight.keys.len();
        let at = self.flights.iter().position(is_unanswered)?;
        let flight = &mut self.flights[at];
        let (verb, keys) = (flight.verb, mem::take(&mut flight.keys));
        if !self.is_fenced(verb) {
            self.flights.remove(at);
        }
        Some((verb, keys))
    }
}

/// How many commands are on their way at once: a return with many channels waits for the server
/// then, and not for the way there.
pub(super) const FLIGHTS_MAX: usize = 16;
