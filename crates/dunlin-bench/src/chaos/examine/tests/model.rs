//! A right server at random, and what becomes of it when one delivery is taken away or repeated.

use proptest::prelude::*;

use super::{ANEW, EPOCH, NOTHING, Story, only, recovered};
use crate::{chaos::examine::Kind, check::journal::Entry};

/// What happens next to the readers of a right server.
#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(bool),
    /// A publication that never gets into the stream, and no answer.
    Vanish,
    Read(usize, usize),
    Recover(usize),
    /// The server is replaced by one without a past; everybody is told.
    Forget,
    /// It is replaced by one that lacks the last few; those that had or lack them are told.
    Replace(usize),
}

/// A right server, and readers that are somewhere in its stream.
struct Model {
    story: Story,
    stream: Vec<u32>,
    /// Where in the stream this epoch's offsets begin, and its number.
    epoch: usize,
    at: Vec<usize>,
}

const READERS: usize = 3;

impl Model {
    fn new(steps: &[Step]) -> Self {
        let story = Story::new(READERS);
        let mut model = Self { story, stream: Vec::new(), epoch: 0, at: vec![0; READERS] };
        steps.iter().for_each(|&step| model.step(step));
        model
    }

    fn name(&self) -> String {
        [EPOCH, &format!("epoch-{}", self.epoch)][usize::from(self.epoch > 0)].to_owned()
    }

    fn read(&mut self, reader: usize, count: usize) {
        for _ in 0..count.min(self.stream.len() - self.at[reader]) {
            let at = self.at[reader];
            self.at[reader] += 1;
            self.story.get(reader, at as u64 + 1, self.stream[at]);
        }
    }

    fn anew(&mut self, reader: usize) {
        self.at[reader] = self.stream.len();
        self.story.start(reader, ANEW, &self.name(), self.stream.len() as u64);
    }

    fn recover(&mut self, reader: usize) {
        let (at, missing) = (self.at[reader], self.stream.len() - self.at[reader]);
        self.story.start(reader, recovered(missing), &self.name(), at as u64);
        self.read(reader, missing);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(acknowledged) => {
                let sequence = self.story.send();
                self.stream.push(sequence);
                if acknowledged {
                    self.story.answer(sequence, true);
                }
            }
            Step::Vanish => {
                self.story.send();
            }
            Step::Read(reader, count) => self.read(reader, count),
            Step::Recover(reader) => self.recover(reader),
            Step::Forget => {
                self.epoch += 1;
                self.stream.clear();
                (0..READERS).for_each(|reader| self.anew(reader));
            }
            Step::Replace(lost) => {
                self.epoch += 1;
                self.stream.truncate(self.stream.len().saturating_sub(lost));
                (0..READERS).for_each(|reader| self.anew(reader));
            }
        }
    }

    fn finish(&mut self) -> [u64; 6] {
        (0..READERS).for_each(|reader| self.read(reader, usize::MAX));
        self.story.found()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => any::<bool>().prop_map(Step::Publish),
        1 => Just(Step::Vanish),
        8 => (0..READERS, 0..4_usize).prop_map(|(reader, count)| Step::Read(reader, count)),
        2 => (0..READERS).prop_map(Step::Recover),
        1 => Just(Step::Forget),
        1 => (0..3_usize).prop_map(Step::Replace),
    ];
    prop::collection::vec(step, 0..80)
}

/// A right server, its readers at the end of the stream.
fn finished(steps: &[Step]) -> Model {
    let mut model = Model::new(steps);
    for _ in 0..3 {
        model.step(Step::Publish(true));
    }
    model.finish();
    model
}

/// Where among the entries of a reader the deliveries are.
fn deliveries(entries: &[Entry]) -> Vec<usize> {
    let is_delivery = |&index: &usize| matches!(entries[index], Entry::Delivered { .. });
    (0..entries.len()).filter(is_delivery).collect()
}

proptest! {
    #[test]
    fn a_right_server_is_found_right(steps in steps()) {
        prop_assert_eq!(Model::new(&steps).finish(), NOTHING);
    }

    #[test]
    fn taking_away_any_delivery_is_found(
        steps in steps(),
        reader in 0..READERS,
        which: prop::sample::Index,
    ) {
        let mut model = finished(&steps);
        let entries = &mut model.story.journal.readers[reader].entries;
        // Who is told next cannot know that it should have got the one before that.
        let last = entries.iter().rposition(|entry| matches!(entry, Entry::Started { .. }));
        let deliveries: Vec<usize> =
            deliveries(entries).into_iter().filter(|&index| Some(index) > last).collect();
        entries.remove(deliveries[which.index(deliveries.len())]);
        prop_assert_ne!(model.story.found(), NOTHING);
    }

    #[test]
    fn repeating_any_delivery_is_found(
        steps in steps(),
        reader in 0..READERS,
        which: prop::sample::Index,
    ) {
        let mut model = finished(&steps);
        let entries = &mut model.story.journal.readers[reader].entries;
        let deliveries = deliveries(entries);
        let index = deliveries[which.index(deliveries.len())];
        entries.insert(index, entries[index]);
        prop_assert_eq!(model.story.found(), only(Kind::Repeat, 1));
    }
}
