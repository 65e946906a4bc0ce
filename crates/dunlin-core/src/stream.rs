//! A stream: a node's view of a channel that keeps its publications. It lets each through once and
//! in order, notices what is missing, and remembers the last ones for those who come back.
//!
//! Pure: what it lets through, and what it must be told, is handed to the caller.

mod begin;
mod heal;
mod ring;
mod settle;

use std::{mem, sync::Arc, time::Instant};

pub use self::begin::{Begin, Read, Resume, Snapshot};
use self::{heal::Heal, ring::Ring};
use crate::{
    history::PAGE_BYTES,
    namespace::Retention,
    position::{Epoch, Position},
    publication::Publication,
};

/// The state of one channel. It is live, or it is healing: what comes meanwhile waits.
#[derive(Debug)]
pub struct Stream {
    retention: Retention,
    /// The last position let through; none before the first heal.
    top: Option<Position>,
    /// The last publications let through, none missing, up to `top`.
    ring: Ring,
    /// Positions in earlier branches: who has them has what the present branch has up to there.
    common: Vec<Position>,
    /// The last position that the broker had not everything behind any more.
    gone: Option<Position>,
    heal: Option<Heal>,
    /// The last question about the stream; tells its answer from those that come too late.
    number: QuestionNumber,
    /// Whether nothing came since the last look.
    is_idle: bool,
}

/// What the broker is to be asked, so that a stream can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last position there is; none in a stream that has just begun.
    pub since: Option<Position>,
    /// What is to be asked.
    pub ask: Ask,
    /// What the broker keeps of the channel.
    pub retention: Retention,
    number: QuestionNumber,
}

impl Gap {
    /// How many bytes a page that is asked for has at most, or about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self.ask {
            Ask::Position => 0,
            Ask::Page { bytes, .. } => bytes,
        }
    }
}

/// What the broker can be asked about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Where the channel is now: most often it is where the stream is.
    Position,
    /// What follows a position, of about so many bytes.
    Page {
        /// The position that the stream has.
        since: Position,
        /// With how many bytes the page ends; what is missing may well be less.
        bytes: usize,
    },
}

/// Tells the questions of a node apart, over its whole life: a channel can be let go of and wanted
/// again while one is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct QuestionNumber {
    stream: u64,
    question: u64,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It goes on.
    On,
    /// It stops until this gap is healed.
    Stopped(Gap),
}

/// What subscribers have to know before a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: nothing is missing.
    None,
    /// Another server writes now, and goes on from what this node has: whoever counts positions
    /// subscribes anew.
    Moved,
    /// Something is missing and does not come any more.
    Lost,
    /// The same in a channel that keeps nothing.
    Dropped,
    /// The broker does not let this node have the channel any more.
    Refused,
}

/// What an answer of the broker brought.
#[derive(Debug)]
pub struct Healed {
    /// What subscribers have to know first.
    pub turn: Turn,
    /// What is let through then.
    pub through: Vec<Arc<Publication>>,
    /// Whether the stream goes on.
    pub flow: Flow,
}

impl Stream {
    /// A stream that waits for its first position: [`Stream::stop`] says what to ask for it. No
    /// other stream of the node ever had this `number`.
    #[must_use]
    pub fn new(retention: Retention, number: u64) -> Self {
        Self {
            retention,
            top: None,
            ring: Ring::default(),
            common: Vec::new(),
            gone: None,
            heal: None,
            number: QuestionNumber { stream: number, question: 0 },
            is_idle: false,
        }
    }

    /// About how many bytes it keeps for those who come back.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// Stops the stream until it is known where the channel is; whatever was under way to heal it
    /// does not count any more.
    pub fn stop(&mut self) -> Gap {
        self.heal.get_or_insert_default().begin(self.number.question);
        self.ask(Ask::Position)
    }

    /// Stops the stream while the broker is away. Nobody is to blame that nothing comes of it.
    pub fn pause(&mut self) {
        let _void = self.stop();
        if let Some(heal) = &mut self.heal {
            heal.pause();
        }
    }

    /// A question whether a stream that is live missed something, if nothing came since this was
    /// called before. It goes on meanwhile.
    pub fn audit(&mut self) -> Option<Gap> {
        if mem::replace(&mut self.is_idle, true) { self.check() } else { None }
    }

    /// The same question whether or not anything came.
    pub fn check(&mut self) -> Option<Gap> {
        let is_live = self.heal.is_none() && self.top.is_some();
        is_live.then(|| self.ask(Ask::Position))
    }

    /// Whether the answer to this question would still count.
    #[must_use]
    pub fn waits_for(&self, gap: Gap) -> bool {
        gap.number == self.number
    }

    /// How far the heal is that is under way: the same twice means that nothing came of it.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        let (heal, pages) = self.heal.as_ref()?.progress()?;
        Some(Progress { stream: self.number.stream, heal, pages })
    }

    fn ask(&mut self, ask: Ask) -> Gap {
        self.number.question += 1;
        Gap { since: self.top, ask, retention: self.retention, number: self.number }
    }

    /// Asks for the next page; `missing` is how many publications there are, as far as is known.
    fn ask_page(&mut self, missing: Option<u64>) -> Gap {
        let Some(since) = self.top else { return self.ask(Ask::Position) };
        let likely = missing.map_or(PAGE_BYTES, |missing| self.ring.likely_bytes(missing));
        self.ask(Ask::Page { since, bytes: likely.clamp(PAGE_BYTES_MIN, PAGE_BYTES) })
    }

    /// Stops the stream; `batch` has to wait.
    fn stop_before(
        &mut self,
        batch: &[Arc<Publication>],
        through: &mut impl Extend<Arc<Publication>>,
    ) -> Gap {
        let heal = self.heal.get_or_insert_default();
        heal.wait(batch, through);
        heal.begin(self.number.question);
        self.ask_page(None)
    }

    /// Takes what the broker delivered. What is let through is appended to `through`.
    pub fn take(
        &mut self,
        batch: &[Arc<Publication>],
        now: Instant,
        through: &mut impl Extend<Arc<Publication>>,
    ) -> Flow {
        self.is_idle = false;
        if let Some(heal) = &mut self.heal {
            heal.wait(batch, through);
            return Flow::On;
        }
        for (number, publication) in batch.iter().enumerate() {
            match self.judge(publication) {
                Verdict::Next => {
                    self.top = publication.position();
                    self.remember(publication, now);
                    through.extend([Arc::clone(publication)]);
                }
                Verdict::Loose => through.extend([Arc::clone(publication)]),
                Verdict::Known => {}
                Verdict::Gap => {
                    return Flow::Stopped(self.stop_before(&batch[number..], through));
                }
            }
        }
        Flow::On
    }

    fn judge(&self, publication: &Publication) -> Verdict {
        let Some(position) = publication.position() else { return Verdict::Loose };
        let Some(top) = self.top else { return Verdict::Gap };
        let is_older =
            |epoch: Epoch| epoch.id == top.epoch.id && epoch.generation() < top.epoch.generation();
        if position.epoch != top.epoch {
            // A server that was replaced and does not know it yet.
            return if is_older(position.epoch) { Verdict::Known } else { Verdict::Gap };
        }
        match position.offset {
            offset if offset == top.offset + 1 => Verdict::Next,
            offset if offset <= top.offset => Verdict::Known,
            _ => Verdict::Gap,
        }
    }

    fn remember(&mut self, publication: &Arc<Publication>, now: Instant) {
        self.ring.push(publication, now + self.retention.ttl, self.retention.size);
    }

    /// Forgets the publications that were let through; who comes back is served by the broker.
    pub fn forget(&mut self) {
        self.ring = Ring::default();
    }
}

/// How far a heal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    stream: u64,
    heal: u64,
    pages: u64,
}

impl Progress {
    /// Whether nothing was let through yet.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.pages == 0
    }

    /// Whether both are of one heal.
    #[must_use]
    pub fn is_of_the_same_heal(&self, other: Self) -> bool {
        (self.stream, self.heal) == (other.stream, other.heal)
    }
}

/// The least that a page is asked for.
const PAGE_BYTES_MIN: usize = 16 * 1024;

/// What a publication is to a stream.
enum Verdict {
    /// The next one.
    Next,
    /// One that has no place in the order.
    Loose,
    /// One that was let through, or was replaced by one that was.
    Known,
    /// Something is missing before it.
    Gap,
}

#[cfg(test)]
mod tests;
