//! Where publications are: by epoch and offset.

use std::collections::HashMap;

use super::{Findings, Kind};
use crate::check::{
    journal::{Entry, Journal},
    judge::Message,
};

/// The places of everything that was delivered.
pub(super) struct Places {
    /// By channel, epoch and offset.
    messages: HashMap<(usize, usize, u64), Message>,
    /// Epoch and offset, the first one in each epoch.
    places: HashMap<Message, Vec<(usize, u64)>>,
}

impl Places {
    /// Finds two publications in one place, and one in two.
    pub(super) fn new(journal: &Journal, findings: &mut Findings) -> Self {
        let mut places = Self { messages: HashMap::new(), places: HashMap::new() };
        for (number, reader) in journal.readers.iter().enumerate() {
            let mut current = None;
            for entry in &reader.entries {
                match *entry {
                    Entry::Started { epoch, .. } => current = Some(epoch),
                    Entry::Delivered { at, offset, message: Some(message) } => {
                        let Some(epoch) = current else { continue };
                        if let Some((kind, problem)) =
                            places.put((reader.channel, epoch, offset), message)
                        {
                            let name = &journal.epochs[epoch];
                            let place = format!("offset {offset} of {name}");
                            let what = format!("reader {number}: {message} at {place} {problem}");
                            // What comes twice may do so long after the fault that made it.
                            let sent = journal.publication(message).map_or(at, |sent| sent.at);
                            let at = if kind == Kind::Repeat { sent } else { at };
                            findings.add(kind, at, 1, what);
                        }
                    }
                    Entry::Delivered { .. } => {}
                }
            }
        }
        let unknown = |message: &&Message| {
            journal.publication(**message).is_some_and(|sent| sent.acknowledged().is_none())
        };
        findings.unknown_there = places.places.keys().filter(unknown).count() as u64;
        places
    }

    /// The places of a publication; none when nobody got it.
    pub(super) fn of(&self, message: Message) -> &[(usize, u64)] {
        self.places.get(&message).map_or(&[], Vec::as_slice)
    }

    fn put(&mut self, place: (usize, usize, u64), message: Message) -> Option<(Kind, String)> {
        match self.messages.get(&place) {
            Some(same) if *same == message => return None,
            Some(other) => return Some((Kind::Disorder, format!("where others got {other}"))),
            None => {}
        }
        self.messages.insert(place, message);
        let (_, epoch, offset) = place;
        let known = self.places.entry(message).or_default();
        match known.iter().find(|(in_epoch, _)| *in_epoch == epoch) {
            Some((_, first)) => Some((Kind::Repeat, format!("is at offset {first}, too"))),
            None => {
                known.push((epoch, offset));
                None
            }
        }
    }
}
