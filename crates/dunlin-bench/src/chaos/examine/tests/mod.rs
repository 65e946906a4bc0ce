//! The examination of right journals finds nothing, and of wrong ones what is wrong with them.

mod model;

use super::{Findings, Kind, examine};
use crate::check::{
    journal::Journal,
    judge::{Message, Start},
};

/// One channel, one publisher, some readers; each thing that happens takes one tick.
struct Story {
    journal: Journal,
    now: u64,
    sent: u32,
}

const EPOCH: &str = "a";
const ANEW: Start = Start::Anew;

fn recovered(publications: usize) -> Start {
    Start::Recovered { publications }
}

impl Story {
    fn new(readers: usize) -> Self {
        let mut journal = Journal::new((0..readers).map(|_| (0, true)), [(0, true)].into_iter());
        journal.readers.iter_mut().for_each(|reader| reader.subscribed = true);
        let mut story = Self { journal, now: 0, sent: 0 };
        (0..readers).for_each(|reader| story.start(reader, ANEW, EPOCH, 0));
        story
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn start(&mut self, reader: usize, start: Start, epoch: &str, offset: u64) {
        let now = self.tick();
        self.journal.started(reader, now, start, epoch, offset);
    }

    fn send(&mut self) -> u32 {
        let now = self.tick();
        self.journal.sent(0, now);
        self.sent += 1;
        self.sent - 1
    }

    fn answer(&mut self, sequence: u32, acknowledged: bool) {
        let now = self.tick();
        self.journal.answered(Message { publisher: 0, sequence }, now, acknowledged);
    }

    fn publish(&mut self) -> u32 {
        let sequence = self.send();
        self.answer(sequence, true);
        sequence
    }

    fn publish_some(&mut self, count: usize) {
        for _ in 0..count {
            self.publish();
        }
    }

    fn get(&mut self, reader: usize, offset: u64, sequence: u32) {
        let now = self.tick();
        let message = Some(Message { publisher: 0, sequence });
        self.journal.delivered(reader, now, offset, message);
    }

    /// Publications whose offset is their number and one.
    fn get_all(&mut self, reader: usize, sequences: impl IntoIterator<Item = u32>) {
        sequences.into_iter().for_each(|it| self.get(reader, u64::from(it) + 1, it));
    }

    /// What is found, by kind, in the order of `Kind::ALL`.
    fn found(&self) -> [u64; 6] {
        counts(&examine(&self.journal))
    }
}

fn counts(findings: &Findings) -> [u64; 6] {
    Kind::ALL.map(|kind| findings.count(kind))
}

const NOTHING: [u64; 6] = [0; 6];

fn only(kind: Kind, count: u64) -> [u64; 6] {
    Kind::ALL.map(|it| if it == kind { count } else { 0 })
}

#[test]
fn a_right_journal_shows_nothing() {
    let mut story = Story::new(2);
    story.publish_some(5);
    story.get_all(0, 0..5);
    story.get_all(1, 0..2);
    story.start(1, recovered(3), EPOCH, 2);
    story.get_all(1, 2..5);
    assert_eq!(story.found(), NOTHING);
    let findings = examine(&story.journal);
    assert_eq!((findings.resets, findings.recoveries, findings.unknown_there), (0, 1, 0));
}

#[test]
fn a_gap_is_found_whether_numbers_show_it_or_not() {
    let mut story = Story::new(2);
    story.publish_some(5);
    story.get_all(0, 0..5);
    story.get_all(1, [0, 1, 3, 4]);
    assert_eq!(story.found(), only(Kind::Gap, 1));

    // Another server counts on from where the first one was: only the content tells.
    let mut story = Story::new(2);
    story.publish_some(5);
    story.get_all(0, 0..5);
    for (offset, sequence) in [(1, 0), (2, 1), (3, 3), (4, 4)] {
        story.get(1, offset, sequence);
    }
    assert_eq!(story.found()[Kind::Disorder as usize], 2);
    assert_eq!(story.found()[Kind::Gap as usize], 1);
}

#[test]
fn a_gap_of_an_unknown_publication_is_found_by_its_number() {
    let mut story = Story::new(2);
    story.publish_some(2);
    let unknown = story.send();
    story.publish_some(2);
    story.get_all(0, 0..5);
    story.get_all(1, (0..5).filter(|&it| it != unknown));
    assert_eq!(story.found(), only(Kind::Gap, 1));
    assert_eq!(examine(&story.journal).unknown_there, 1);
}

#[test]
fn a_repeat_is_found_for_a_reader_and_in_the_stream() {
    let mut story = Story::new(2);
    story.publish_some(3);
    story.get_all(0, 0..3);
    story.get_all(1, [0, 1, 1, 2]);
    assert_eq!(story.found(), only(Kind::Repeat, 1));

    // A publish of unknown fate that was tried again: two places, for whoever reads.
    let mut story = Story::new(2);
    story.publish_some(3);
    for reader in 0..2 {
        story.get_all(reader, 0..3);
        story.get(reader, 4, 1);
    }
    assert_eq!(story.found(), only(Kind::Repeat, 1));

    // Once more under another epoch.
    let mut story = Story::new(1);
    story.publish_some(2);
    story.get_all(0, 0..2);
    story.start(0, recovered(1), "b", 1);
    story.get(0, 2, 1);
    assert_eq!(story.found(), only(Kind::Repeat, 1));
}

#[test]
fn a_swap_is_found_within_an_epoch_and_across_epochs() {
    let mut story = Story::new(2);
    story.publish_some(3);
    story.get_all(0, 0..3);
    for (offset, sequence) in [(1, 0), (2, 2), (3, 1)] {
        story.get(1, offset, sequence);
    }
    assert_eq!(story.found(), only(Kind::Disorder, 2));

    // One that comes behind a later one.
    let mut story = Story::new(2);
    story.publish_some(3);
    story.get_all(0, 0..3);
    story.get_all(1, [0, 2, 1]);
    assert_eq!(story.found(), only(Kind::Disorder, 1));

    // One reader goes over to another server between the two.
    let mut story = Story::new(2);
    story.publish_some(3);
    story.get_all(0, 0..3);
    story.get_all(1, 0..1);
    story.start(1, recovered(2), "b", 1);
    story.get(1, 2, 2);
    story.get(1, 3, 1);
    assert_eq!(story.found(), only(Kind::Disorder, 1));
}

#[test]
fn a_false_recovered_is_found() {
    // One is missing in what was recovered.
    let mut story = Story::new(2);
    story.publish_some(5);
    story.get_all(0, 0..5);
    story.get_all(1, 0..2);
    story.start(1, recovered(2), EPOCH, 2);
    story.get_all(1, [3, 4]);
    assert_eq!(story.found(), only(Kind::FalseRecovered, 1));

    // Everything is missing, and its place is said to be further on.
    let mut story = Story::new(2);
    story.publish_some(4);
    story.get_all(0, 0..4);
    story.get_all(1, 0..2);
    story.start(1, recovered(0), EPOCH, 4);
    assert_eq!(story.found(), only(Kind::FalseRecovered, 2));

    // The tail was lost with a server: who had not seen it is not told.
    let mut story = Story::new(2);
    story.publish_some(4);
    story.get_all(0, 0..4);
    story.get_all(1, 0..2);
    story.start(0, ANEW, "b", 2);
    story.start(1, recovered(0), "b", 2);
    story.publish_some(1);
    (0..2).for_each(|reader| story.get(reader, 3, 4));
    assert_eq!(story.found(), only(Kind::FalseRecovered, 2));

    // Recovered from nowhere.
    let mut story = Story::new(0);
    story.journal = Journal::new([(0, true)].into_iter(), [(0, true)].into_iter());
    story.start(0, recovered(0), EPOCH, 0);
    assert_eq!(story.found(), only(Kind::FalseRecovered, 1));
}

#[test]
fn who_is_told_is_owed_nothing_of_what_came_between() {
    // A server without a past: everything from its start is there.
    let mut story = Story::new(2);
    story.publish_some(3);
    story.get_all(0, 0..3);
    story.get_all(1, 0..2);
    (0..2).for_each(|reader| story.start(reader, ANEW, "b", 0));
    story.publish_some(1);
    (0..2).for_each(|reader| story.get(reader, 1, 3));
    assert_eq!(story.found(), NOTHING);
    assert_eq!(examine(&story.journal).resets, 2);

    // But of what was sent after that, everything.
    story.publish_some(2);
    story.get(0, 2, 4);
    story.get(0, 3, 5);
    assert_eq!(story.found(), only(Kind::Gap, 2));
}

#[test]
fn who_is_told_later_was_owed_what_came_before_what_it_got() {
    let mut story = Story::new(2);
    story.publish_some(2);
    story.get_all(0, 0..2);
    // Another epoch, so that numbers prove nothing.
    story.get_all(1, 0..1);
    story.start(1, recovered(1), "b", 4);
    story.publish_some(1);
    story.get(1, 5, 2);
    story.start(1, ANEW, "c", 9);
    story.get_all(0, 2..3);
    assert_eq!(story.found(), only(Kind::FalseRecovered, 1));
}

#[test]
fn a_lost_tail_is_found() {
    // Nobody got the last one.
    let mut story = Story::new(2);
    story.publish_some(3);
    (0..2).for_each(|reader| story.get_all(reader, 0..2));
    assert_eq!(story.found(), only(Kind::Lost, 1));

    // One reader did not get it.
    story.get_all(0, 2..3);
    assert_eq!(story.found(), only(Kind::Gap, 1));

    // It was away at the end: what it was owed nobody knows, and that it is away is told elsewhere.
    story.journal.readers[1].subscribed = false;
    assert_eq!(story.found(), NOTHING);
}

#[test]
fn what_was_acknowledged_and_delivered_to_nobody_is_found_in_the_middle() {
    let mut story = Story::new(2);
    story.publish_some(3);
    for reader in 0..2 {
        story.get(reader, 1, 0);
        story.get(reader, 2, 2);
    }
    assert_eq!(story.found(), only(Kind::Lost, 1));

    // Not if it was never acknowledged.
    let mut story = Story::new(2);
    story.publish_some(1);
    let refused = story.send();
    story.answer(refused, false);
    story.publish_some(1);
    for reader in 0..2 {
        story.get(reader, 1, 0);
        story.get(reader, 2, 2);
    }
    assert_eq!(story.found(), NOTHING);
}

#[test]
fn what_belongs_elsewhere_is_found() {
    let mut journal = Journal::new([(0, true)].into_iter(), [(1, true), (0, true)].into_iter());
    journal.sent(0, 1);
    let message = |publisher, sequence| Some(Message { publisher, sequence });
    journal.delivered(0, 2, 1, message(1, 0));
    journal.started(0, 3, ANEW, EPOCH, 0);
    for (offset, message) in [None, message(0, 0), message(1, 0), message(7, 0)].iter().enumerate()
    {
        journal.delivered(0, 4, offset as u64 + 1, *message);
    }
    assert_eq!(counts(&examine(&journal)), only(Kind::Misrouted, 5));
}
