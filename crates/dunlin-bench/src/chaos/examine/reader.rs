//! What one reader got: its segments, from one "your position is lost" to the next, and the holes
//! in them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Findings, Kind, places::Places};
use crate::check::{
    journal::{Entry, Journal, Sent},
    judge::{Message, Start},
};

/// What one reader got.
pub(super) struct View {
    pub(super) segments: Vec<Segment>,
    /// Every publication it got.
    pub(super) seen: HashSet<Message>,
    /// Epochs and offsets that it jumped over; told as gaps already.
    pub(super) holes: HashSet<(usize, u64)>,
}

/// From a start without a past to the next one.
#[derive(Default)]
pub(super) struct Segment {
    /// When it was granted.
    pub(super) started: u64,
    /// When the server said "recovered" in it.
    pub(super) recoveries: Vec<u64>,
    /// What was delivered, each once, in order.
    pub(super) delivered: Vec<(u64, Message)>,
    /// When the latest of them was sent, and the earliest acknowledgement came.
    pub(super) latest_sent: Option<u64>,
    pub(super) earliest_acknowledged: Option<u64>,
}

struct Walk<'a> {
    number: usize,
    channel: usize,
    journal: &'a Journal,
    places: &'a Places,
    findings: &'a mut Findings,
    view: View,
    /// Epoch, and offset of the last delivery; `None`: the next one tells.
    position: Option<(usize, Option<u64>)>,
    /// The segment in which it got a publication.
    segment_of: HashMap<Message, usize>,
    /// Holes of this segment, and the finding that told them.
    missed: BTreeMap<u64, usize>,
    after_recovery: bool,
}

impl View {
    pub(super) fn new(
        journal: &Journal,
        number: usize,
        places: &Places,
        findings: &mut Findings,
    ) -> Self {
        let reader = &journal.readers[number];
        let view = Self { segments: Vec::new(), seen: HashSet::new(), holes: HashSet::new() };
        let mut walk = Walk {
            number,
            channel: reader.channel,
            journal,
            places,
            findings,
            view,
            position: None,
            segment_of: HashMap::new(),
            missed: BTreeMap::new(),
            after_recovery: false,
        };
        for entry in &reader.entries {
            match *entry {
                Entry::Started { at, start, epoch, offset } => {
                    walk.start(at, start, epoch, offset);
                }
                Entry::Delivered { at, offset, message } => walk.deliver(at, offset, message),
            }
        }
        walk.view
    }
}

impl Walk<'_> {
    fn start(&mut self, at: u64, start: Start, epoch: usize, offset: u64) {
        match (start, self.position) {
            (Start::Recovered { publications }, Some((before, was))) => {
                self.findings.recoveries += 1;
                self.after_recovery = true;
                if let Some(segment) = self.view.segments.last_mut() {
                    segment.recoveries.push(at);
                }
                if before != epoch {
                    // A branch may fork off before where the reader was; what follows tells where.
                    self.missed.clear();
                    self.position = Some((epoch, (publications == 0).then_some(offset)));
                } else if let Some(was) = was
                    && publications == 0
                    && offset > was
                {
                    self.jump(at, epoch, was, offset + 1);
                    self.position = Some((epoch, Some(offset)));
                }
            }
            (start, before) => {
                if start != Start::Anew {
                    let what = format!("{}: recovered from nowhere", self.name());
                    self.findings.add(Kind::FalseRecovered, at, 1, what);
                }
                self.findings.resets += u64::from(before.is_some());
                self.view.segments.push(Segment { started: at, ..Segment::default() });
                self.position = Some((epoch, Some(offset)));
                self.after_recovery = false;
                self.missed.clear();
            }
        }
    }

    fn deliver(&mut self, at: u64, offset: u64, message: Option<Message>) {
        let Some((epoch, last)) = self.position else {
            let what = format!("{}: a delivery without a subscription", self.name());
            return self.findings.add(Kind::Misrouted, at, 1, what);
        };
        let expected = last.map_or(offset, |last| last + 1);
        if offset > expected {
            self.jump(at, epoch, expected - 1, offset);
        }
        let is_late = offset < expected;
        if is_late {
            self.late(at, epoch, offset, message);
        } else {
            self.position = Some((epoch, Some(offset)));
            self.after_recovery = false;
        }
        let Some((message, sent)) = message.and_then(|message| self.known(message)) else {
            let what = format!("{}: nobody published offset {offset} here", self.name());
            return self.findings.add(Kind::Misrouted, at, 1, what);
        };
        self.note(at, message, sent, (epoch, offset), is_late);
    }

    /// Puts a publication into the segment, if it is not there.
    fn note(
        &mut self,
        at: u64,
        message: Message,
        sent: Sent,
        (epoch, offset): (usize, u64),
        is_late: bool,
    ) {
        let number = self.view.segments.len() - 1;
        match self.segment_of.insert(message, number) {
            Some(before) if before == number => {
                // One with two places in an epoch is told once for all readers.
                let first = self.places.of(message).iter().find(|place| place.0 == epoch);
                if !is_late && first.is_none_or(|place| place.1 == offset) {
                    let what = format!("{}: {message} once more", self.name());
                    self.findings.add(Kind::Repeat, at, 1, what);
                }
                return;
            }
            Some(_) => self.findings.again_after_reset += 1,
            None => {}
        }
        self.view.seen.insert(message);
        let segment = &mut self.view.segments[number];
        segment.delivered.push((at, message));
        segment.latest_sent = segment.latest_sent.max(Some(sent.at));
        let acknowledged = sent.acknowledged();
        let earliest = [segment.earliest_acknowledged, acknowledged].into_iter().flatten().min();
        segment.earliest_acknowledged = earliest;
    }

    /// A delivery that is not further on: one that was missed, or one more time.
    fn late(&mut self, at: u64, epoch: usize, offset: u64, message: Option<Message>) {
        let name = self.name();
        if let Some(finding) = self.missed.remove(&offset) {
            self.findings.broken[finding].publications -= 1;
            self.view.holes.remove(&(epoch, offset));
            let what = format!("{name}: offset {offset} after later ones");
            self.findings.add(Kind::Disorder, at, 1, what);
        } else if message.is_some_and(|message| self.view.seen.contains(&message)) {
            let what = format!("{name}: offset {offset} once more");
            self.findings.add(Kind::Repeat, at, 1, what);
        } else {
            let what = format!("{name}: offset {offset} from before its start");
            self.findings.add(Kind::Disorder, at, 1, what);
        }
    }

    /// Notes the offsets between two.
    fn jump(&mut self, at: u64, epoch: usize, from: u64, to: u64) {
        let kind = if self.after_recovery { Kind::FalseRecovered } else { Kind::Gap };
        let what = format!(
            "{}: from offset {from} to {to} of {}",
            self.name(),
            self.journal.epochs[epoch]
        );
        let remembered = (from + 1).max(to.saturating_sub(HOLES_MAX));
        let finding = self.findings.broken.len();
        self.findings.add(kind, at, to - from - 1, what);
        self.missed.extend((remembered..to).map(|offset| (offset, finding)));
        self.view.holes.extend((remembered..to).map(|offset| (epoch, offset)));
    }

    /// A publication of this channel that was published.
    fn known(&self, message: Message) -> Option<(Message, Sent)> {
        let sent = self.journal.publication(message)?;
        let channel = self.journal.publishers[message.publisher].channel;
        (channel == self.channel).then_some((message, *sent))
    }

    fn name(&self) -> String {
        format!("reader {} of channel {}", self.number, self.channel)
    }
}

/// Of a longer jump only the last so many offsets are remembered.
const HOLES_MAX: u64 = 100_000;
