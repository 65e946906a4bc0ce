//! One order for all: what readers got, each in its order, fits into one order per channel.

use std::collections::{HashMap, HashSet};

use super::{Findings, Kind, reader::View};
use crate::check::{journal::Journal, judge::Message};

/// Finds channels whose readers contradict one another, also across epochs.
pub(super) fn compare(journal: &Journal, views: &[View], findings: &mut Findings) {
    let channels = journal.readers.iter().map(|reader| reader.channel);
    for channel in channels.collect::<HashSet<_>>() {
        let readers = journal.readers.iter().zip(views);
        let readers = readers.filter(|(reader, _)| reader.channel == channel);
        let mut order = Order::default();
        for segment in readers.flat_map(|(_, view)| &view.segments) {
            order.add(&segment.delivered);
        }
        if let Some(message) = order.contradiction()
            && let Some(sent) = journal.publication(message)
        {
            let what = format!("channel {channel}: readers got {message} in different orders");
            findings.add(Kind::Disorder, sent.at, 1, what);
        }
    }
}

/// Which publication comes right behind which, for some reader.
#[derive(Default)]
struct Order {
    numbers: HashMap<Message, usize>,
    messages: Vec<Message>,
    followers: Vec<HashSet<usize>>,
}

impl Order {
    fn add(&mut self, delivered: &[(u64, Message)]) {
        let mut before: Option<usize> = None;
        for (_, message) in delivered {
            let next = self.messages.len();
            let number = *self.numbers.entry(*message).or_insert(next);
            if number == next {
                self.messages.push(*message);
                self.followers.push(HashSet::new());
            }
            if let Some(before) = before {
                self.followers[before].insert(number);
            }
            before = Some(number);
        }
    }

    /// A publication that comes before itself: takes away what nothing is before, until nothing is
    /// left (Kahn).
    fn contradiction(&self) -> Option<Message> {
        let mut before = vec![0_usize; self.messages.len()];
        for &follower in self.followers.iter().flatten() {
            before[follower] += 1;
        }
        let mut free: Vec<usize> =
            (0..before.len()).filter(|&number| before[number] == 0).collect();
        while let Some(number) = free.pop() {
            for &follower in &self.followers[number] {
                before[follower] -= 1;
                if before[follower] == 0 {
                    free.push(follower);
                }
            }
        }
        before.iter().position(|&count| count > 0).map(|number| self.messages[number])
    }
}
