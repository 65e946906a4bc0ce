//! The judge against a model server that is right, and against one that is wrong in each way.

use proptest::prelude::*;

use super::judge::{Faults, Judge, Message, Start};

/// What happens next to a reader.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The publisher publishes; `true`: it is acknowledged.
    Publish(bool),
    /// A publication that is lost on the way to the stream, and never acknowledged.
    Vanish,
    /// The reader gets up to so many publications.
    Read(usize, usize),
    /// It is cut and recovers.
    Recover(usize),
    /// It is cut and told that it is not recovered.
    Restart(usize),
}

/// A stream, and readers that are where the judge thinks they are.
struct Model {
    judge: Judge,
    stream: Vec<Message>,
    at: Vec<usize>,
    sequence: u32,
}

impl Model {
    fn new(readers: usize) -> Self {
        let mut judge = Judge::new(1, &vec![0; readers], &[0]);
        (0..readers).for_each(|reader| judge.subscribe(reader, Start::Anew, "e", 0));
        Self { judge, stream: Vec::new(), at: vec![0; readers], sequence: 0 }
    }

    fn publish(&mut self) -> Message {
        let message = Message { publisher: 0, sequence: self.sequence };
        self.sequence += 1;
        self.stream.push(message);
        message
    }

    fn read(&mut self, reader: usize, count: usize) {
        for _ in 0..count.min(self.stream.len() - self.at[reader]) {
            let message = self.stream[self.at[reader]];
            self.at[reader] += 1;
            self.judge.deliver(reader, self.at[reader] as u64, Some(message));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(acknowledged) => {
                let message = self.publish();
                if acknowledged {
                    self.judge.acknowledge(message);
                }
            }
            Step::Vanish => self.sequence += 1,
            Step::Read(reader, count) => self.read(reader, count),
            Step::Recover(reader) => {
                let missing = self.stream.len() - self.at[reader];
                let (start, at) = (Start::Recovered { publications: missing }, self.at[reader]);
                self.judge.subscribe(reader, start, "e", at as u64);
                self.read(reader, missing);
            }
            Step::Restart(reader) => {
                self.at[reader] = self.stream.len();
                self.judge.subscribe(reader, Start::Anew, "e", self.stream.len() as u64);
            }
        }
    }

    fn finish(&mut self) -> Faults {
        (0..self.at.len()).for_each(|reader| self.read(reader, usize::MAX));
        self.judge.verdict()
    }

    /// All readers up to date, then five more publications.
    fn with_news(steps: &[Step]) -> Self {
        let mut model = Self::new(READERS);
        steps.iter().for_each(|&step| model.step(step));
        model.finish();
        // One more for each: it ends the trial of the last recovery.
        model.publish();
        model.finish();
        for _ in 0..5 {
            model.publish();
        }
        model
    }

    /// The next publication of the first reader, `ahead` further on.
    fn next(&self, ahead: usize) -> (u64, Option<Message>) {
        let at = self.at[0] + ahead;
        (at as u64 + 1, Some(self.stream[at]))
    }

    fn deliver(&mut self, (offset, message): (u64, Option<Message>)) {
        self.judge.deliver(0, offset, message);
    }
}

const READERS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Step::Publish),
        1 => Just(Step::Vanish),
        4 => (0..READERS, 0..4_usize).prop_map(|(reader, count)| Step::Read(reader, count)),
        1 => (0..READERS).prop_map(Step::Recover),
        1 => (0..READERS).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn a_right_server_has_no_fault(steps in steps()) {
        let mut model = Model::new(READERS);
        steps.iter().for_each(|&step| model.step(step));
        prop_assert_eq!(model.finish(), Faults::default());
    }

    #[test]
    fn each_wrong_is_found_as_what_it_is(steps in steps()) {
        // One that is skipped is a gap.
        let mut model = Model::with_news(&steps);
        model.deliver(model.next(1));
        model.at[0] += 2;
        prop_assert_eq!(model.finish(), Faults { gaps: 1, ..Faults::default() });

        // One that comes late is a reorder.
        let mut model = Model::with_news(&steps);
        model.deliver(model.next(1));
        model.deliver(model.next(0));
        model.at[0] += 2;
        prop_assert_eq!(model.finish(), Faults { reorders: 1, ..Faults::default() });

        // One that comes twice is a duplicate.
        let mut model = Model::with_news(&steps);
        model.deliver(model.next(0));
        model.deliver(model.next(0));
        model.at[0] += 1;
        prop_assert_eq!(model.finish(), Faults { duplicates: 1, ..Faults::default() });

        // One that is in the stream twice is a duplicate.
        let mut model = Model::with_news(&steps);
        model.stream.push(model.stream[model.at[0]]);
        prop_assert_eq!(model.finish(), Faults { duplicates: 1, ..Faults::default() });

        // Another one than everybody else gets there is a reorder.
        let mut model = Model::with_news(&steps);
        model.read(1, 5);
        model.deliver((model.next(0).0, model.next(1).1));
        model.deliver((model.next(1).0, model.next(0).1));
        model.at[0] += 2;
        prop_assert_eq!(model.finish(), Faults { reorders: 2, ..Faults::default() });

        // One that was acknowledged and never came is a gap.
        let mut model = Model::with_news(&steps);
        model.judge.acknowledge(Message { publisher: 0, sequence: model.sequence });
        let restarted = steps.iter().any(|step| matches!(step, Step::Restart(_)));
        prop_assert!(restarted || model.judge.lost() == 1);

        // A reader that does not reach the end has a gap.
        let mut model = Model::with_news(&steps);
        model.read(1, 5);
        model.read(2, 5);
        prop_assert_eq!(model.judge.verdict(), Faults { gaps: 5, ..Faults::default() });
    }

    #[test]
    fn a_false_recovery_is_found(steps in steps()) {
        // One is missing in what was recovered.
        let recovered = Start::Recovered { publications: 4 };
        let mut model = Model::with_news(&steps);
        model.judge.subscribe(0, recovered, "e", model.at[0] as u64);
        (1..5).for_each(|ahead| model.deliver(model.next(ahead)));
        model.at[0] += 5;
        let expected = Faults { gaps: 1, false_recovered: 1, ..Faults::default() };
        prop_assert_eq!(model.finish(), expected);

        // The first one behind the recovery is missing.
        let mut model = Model::with_news(&steps);
        let none = Start::Recovered { publications: 0 };
        model.judge.subscribe(0, none, "e", model.at[0] as u64);
        (1..5).for_each(|ahead| model.deliver(model.next(ahead)));
        model.at[0] += 5;
        prop_assert_eq!(model.finish(), expected);

        // One that the reader had is repeated.
        let mut model = Model::with_news(&steps);
        model.read(0, 1);
        model.judge.subscribe(0, recovered, "e", model.at[0] as u64);
        model.at[0] -= 1;
        (0..5).for_each(|ahead| model.deliver(model.next(ahead)));
        model.at[0] += 5;
        let expected = Faults { duplicates: 1, false_recovered: 1, ..Faults::default() };
        prop_assert_eq!(model.finish(), expected);

        // The reader is taken further on without the publications between.
        let mut model = Model::with_news(&steps);
        model.judge.subscribe(0, none, "e", model.at[0] as u64 + 2);
        model.at[0] += 2;
        let expected = Faults { gaps: 2, false_recovered: 1, ..Faults::default() };
        prop_assert_eq!(model.finish(), expected);
    }
}

#[test]
fn a_message_of_another_channel_or_run_is_misrouted() {
    let mut judge = Judge::new(2, &[0], &[0, 1]);
    judge.subscribe(0, Start::Anew, "e", 0);
    judge.deliver(0, 1, None);
    judge.deliver(0, 2, Some(Message { publisher: 1, sequence: 0 }));
    judge.deliver(0, 3, Some(Message { publisher: 9, sequence: 0 }));
    assert_eq!(judge.verdict(), Faults { misrouted: 3, ..Faults::default() });
}

#[test]
fn a_branch_that_forks_off_repeats_nothing_and_owes_nothing_of_the_old_end() {
    let message = |sequence| Some(Message { publisher: 0, sequence });
    let mut judge = Judge::new(1, &[0, 0], &[0]);
    (0..2).for_each(|reader| judge.subscribe(reader, Start::Anew, "a", 0));
    (0..2).for_each(|reader| judge.deliver(reader, 1, message(0)));
    judge.deliver(0, 2, message(1));
    judge.acknowledge(Message { publisher: 0, sequence: 1 });
    // Offset 2 was lost with its server; the first reader had it, the second recovers.
    judge.subscribe(0, Start::Anew, "b", 1);
    judge.subscribe(1, Start::Recovered { publications: 1 }, "b", 1);
    (0..2).for_each(|reader| judge.deliver(reader, 2, message(2)));
    assert_eq!(judge.verdict(), Faults::default());
    assert_eq!(judge.position(1), Some((2, "b")));
}

#[test]
fn what_fell_where_nobody_was_recovered_is_covered() {
    let mut judge = Judge::new(1, &[0], &[0]);
    judge.subscribe(0, Start::Anew, "e", 5);
    judge.acknowledge(Message { publisher: 0, sequence: 0 });
    assert_eq!(judge.lost(), 1);
    judge.subscribe(0, Start::Anew, "e", 6);
    assert_eq!(judge.verdict(), Faults::default());
}
