//! What comes in answer to a question, node by node. Pure.

use std::{collections::HashMap, time::Duration};

use dunlin_core::{
    control::{Answer, Part},
    ids::NodeId,
};
use tokio::time::Instant;

/// How long a node may be silent before its answer is whole. How long the answer is does not
/// matter.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// Parts of an answer that may be on their way to who asked: what waits for it at the broker.
pub(super) const WINDOW: u32 = 16;

/// The answers so far.
#[derive(Debug)]
pub(super) struct Gathering {
    nodes: HashMap<NodeId, Gathered>,
    /// Entries that are still taken; none beyond.
    room: usize,
    is_truncated: bool,
}

/// What came of one node so far.
#[derive(Debug)]
struct Gathered {
    parts: Vec<Part>,
    next: u32,
    state: State,
    heard_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Answering,
    Whole,
    /// It fell silent, or a part of its answer was lost.
    Missing,
}

impl Gathering {
    /// Nothing yet of these nodes, of whose answers at most `entries_max` entries are taken.
    pub(super) fn new(
        nodes: impl IntoIterator<Item = NodeId>,
        entries_max: usize,
        now: Instant,
    ) -> Self {
        let nodes = nodes.into_iter().map(|node| (node, Gathered::new(now)));
        Self { nodes: nodes.collect(), room: entries_max, is_truncated: false }
    }

    /// Takes a part of the answer of a node, also of one that nobody knew of. Returns the number of
    /// parts that the node is to be told came, so that it goes on.
    pub(super) fn take(&mut self, node: NodeId, answer: Answer, now: Instant) -> Option<u32> {
        let gathered = self.nodes.entry(node).or_insert_with(|| Gathered::new(now));
        if gathered.state != State::Answering || self.is_truncated {
            return None;
        }
        if answer.number != gathered.next {
            gathered.state = State::Missing;
            return None;
        }
        let mut part = answer.part;
        self.is_truncated = part.len() > self.room;
        part.truncate(self.room);
        self.room -= part.len();
        gathered.heard_at = now;
        gathered.next += 1;
        gathered.parts.push(part);
        if answer.is_last {
            gathered.state = State::Whole;
            return None;
        }
        gathered.next.is_multiple_of(WINDOW / 2).then_some(gathered.next)
    }

    /// Until when to wait for more, unless it comes before; none = there is nothing to wait for.
    pub(super) fn waits_until(&mut self, now: Instant) -> Option<Instant> {
        if self.is_truncated {
            return None;
        }
        let answering = self.nodes.values_mut().filter(|it| it.state == State::Answering);
        let mut until = None;
        for gathered in answering {
            let silent_at = gathered.heard_at + SILENCE;
            if silent_at <= now {
                gathered.state = State::Missing;
            } else {
                until = Some(until.map_or(silent_at, |until: Instant| until.min(silent_at)));
            }
        }
        until
    }

    /// Whether there was more than what may be taken; it was not waited for.
    pub(super) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The answers that are whole; if there was more than what may be taken, also what came of the
    /// others.
    pub(super) fn into_answers(self) -> HashMap<NodeId, Vec<Part>> {
        let is_truncated = self.is_truncated;
        let counts = |gathered: &Gathered| match gathered.state {
            State::Whole => true,
            State::Answering => is_truncated,
            State::Missing => false,
        };
        let answers = self.nodes.into_iter().filter(|(_, gathered)| counts(gathered));
        answers.map(|(node, gathered)| (node, gathered.parts)).collect()
    }
}

impl Gathered {
    fn new(now: Instant) -> Self {
        Self { parts: Vec::new(), next: 0, state: State::Answering, heard_at: now }
    }
}

#[cfg(test)]
mod tests {
    use dunlin_core::{channel::ChannelName, control::MessageId};

    use super::*;

    fn nodes() -> [NodeId; 2] {
        [1, 2].map(NodeId::new)
    }

    /// A part with so many channels.
    fn part(number: u32, is_last: bool, channels: usize) -> Answer {
        let channel = |n: usize| (ChannelName::new(&format!("{number}-{n}")).unwrap(), 1);
        let part = Part::Channels((0..channels).map(channel).collect());
        Answer { to: MessageId { node: NodeId::new(1), number: 0 }, number, is_last, part }
    }

    fn entries(gathering: Gathering) -> usize {
        gathering.into_answers().values().flatten().map(Part::len).sum()
    }

    #[test]
    fn a_long_answer_is_waited_for_as_long_as_it_goes_on() {
        let start = Instant::now();
        let [one, two] = nodes();
        let mut gathering = Gathering::new([one, two], 10_000, start);
        let _ = gathering.take(two, part(0, true, 1), start);
        for number in 0..100 {
            let now = start + SILENCE / 2 * number;
            assert_eq!(
                gathering.waits_until(now),
                Some(now.max(start + SILENCE / 2) + SILENCE / 2)
            );
            let go_on = gathering.take(one, part(number, number == 99, 3), now);
            assert_eq!(go_on.is_some(), number % 8 == 7 && number < 99);
        }
        assert_eq!(gathering.waits_until(start + SILENCE * 99), None);
        assert!(!gathering.is_truncated());
        assert_eq!(entries(gathering), 301);
    }

    #[test]
    fn who_falls_silent_or_loses_a_part_is_missing() {
        let start = Instant::now();
        let [one, two] = nodes();
        let mut gathering = Gathering::new([one, two], 10_000, start);
        let _ = gathering.take(one, part(0, false, 3), start);
        let _ = gathering.take(two, part(0, false, 3), start);
        let _ = gathering.take(two, part(2, true, 3), start);
        assert_eq!(gathering.waits_until(start), Some(start + SILENCE));
        assert_eq!(gathering.waits_until(start + SILENCE), None);
        let _ = gathering.take(one, part(1, true, 3), start + SILENCE);
        assert!(gathering.into_answers().is_empty(), "nothing is half");
    }

    #[test]
    fn what_is_too_much_is_cut_and_it_is_said() {
        let now = Instant::now();
        let [one, two] = nodes();
        let mut gathering = Gathering::new([one, two], 10, now);
        let _ = gathering.take(one, part(0, true, 4), now);
        let _ = gathering.take(two, part(0, false, 6), now);
        assert!(!gathering.is_truncated());
        let _ = gathering.take(two, part(1, false, 1), now);
        assert!(gathering.is_truncated());
        assert_eq!(gathering.waits_until(now), None);
        assert_eq!(entries(gathering), 10);
    }
}
