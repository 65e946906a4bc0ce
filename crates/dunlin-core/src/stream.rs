//! A stream: a node's view of a channel that keeps its publications. It lets each through once and
//! in order, notices what is missing, and remembers the last ones for those who come back.
//!
//! Pure: what it lets through, and what it must be told, is handed to the caller.

mod heal;

use std::{collections::VecDeque, sync::Arc};

use self::heal::Heal;
use crate::{
    history::{Recovery, Since},
    namespace::Retention,
    position::{Epoch, Position},
    publication::Publication,
};

/// Publications remembered for those who come back to this node, and bytes of them.
const RING_MAX: usize = 256;
const RING_BYTES_MAX: usize = 1 << 20;

/// The state of one channel. It is live, or it is healing: what comes meanwhile waits.
#[derive(Debug)]
pub struct Stream {
    retention: Retention,
    /// The last position let through; none before the first heal.
    top: Option<Position>,
    /// The last publications let through, none missing, up to `top`.
    ring: VecDeque<Arc<Publication>>,
    ring_bytes: usize,
    heal: Option<Heal>,
    /// Heals begun; tells the answer to the last one from answers that come too late.
    heals: u64,
    /// Whether nothing came since the last look.
    is_idle: bool,
}

/// What the broker is to be asked for, so that a stream can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last position there is; none = only the newest one is wanted, with its publication.
    pub since: Option<Position>,
    /// What the broker keeps of the channel.
    pub retention: Retention,
    number: u64,
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
    /// Another server writes now, and goes on from what this node has or from earlier: whoever
    /// counts positions subscribes anew.
    Moved,
    /// Something is missing and does not come any more.
    Lost,
}

/// What a heal brought.
#[derive(Debug)]
pub struct Healed {
    /// What subscribers have to know first.
    pub turn: Turn,
    /// What is let through then.
    pub through: Vec<Arc<Publication>>,
    /// Whether the stream goes on.
    pub flow: Flow,
}

/// Where a subscriber begins, and what it gets first.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Where it is before it gets `publications`; none in a channel without history.
    pub position: Option<Position>,
    /// Whether it was away and misses nothing now.
    pub recovered: bool,
    /// What it missed, oldest first.
    pub publications: Vec<Arc<Publication>>,
}

/// What a subscriber that was away wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Where it was.
    pub since: Since,
    /// The most publications it is given; who missed more begins anew.
    pub limit: usize,
    /// Whether only the latest publication is wanted.
    pub is_cache: bool,
}

/// Whether a subscriber can begin.
#[derive(Debug)]
pub enum Begin {
    /// It can, here.
    At(Snapshot),
    /// Not before this is read from the broker.
    Read(Position),
    /// Not before the stream is healed, which has begun now: the subscriber knows more than this
    /// node.
    Heal(Gap),
}

impl Stream {
    /// A stream that waits for its first position: [`Stream::stop`] says what to ask for it.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        let (ring, ring_bytes) = (VecDeque::new(), 0);
        Self { retention, top: None, ring, ring_bytes, heal: None, heals: 0, is_idle: false }
    }

    /// Whether it is live and nothing came since this was asked before.
    pub fn has_been_idle(&mut self) -> bool {
        let is_live = self.heal.is_none() && self.top.is_some();
        std::mem::replace(&mut self.is_idle, true) && is_live
    }

    /// Stops the stream; whatever was under way to heal it does not count any more.
    pub fn stop(&mut self) -> Gap {
        self.stop_before(&[])
    }

    /// Stops the stream; `batch` has to wait.
    fn stop_before(&mut self, batch: &[Arc<Publication>]) -> Gap {
        self.heals += 1;
        self.heal.get_or_insert_default().ask_after(batch);
        Gap { since: self.top, retention: self.retention, number: self.heals }
    }

    /// Takes what the broker delivered. What is let through is appended to `through`.
    pub fn take(
        &mut self,
        batch: &[Arc<Publication>],
        through: &mut impl Extend<Arc<Publication>>,
    ) -> Flow {
        self.is_idle = false;
        if let Some(heal) = &mut self.heal {
            heal.wait(batch);
            return Flow::On;
        }
        for (number, publication) in batch.iter().enumerate() {
            match self.judge(publication) {
                Verdict::Next => {
                    self.remember(publication);
                    through.extend([Arc::clone(publication)]);
                }
                Verdict::Loose => through.extend([Arc::clone(publication)]),
                Verdict::Known => {}
                Verdict::Gap => return Flow::Stopped(self.stop_before(&batch[number..])),
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

    fn remember(&mut self, publication: &Arc<Publication>) {
        self.top = publication.position();
        self.ring.push_back(Arc::clone(publication));
        self.ring_bytes += publication.data().len();
        let len_max = RING_MAX.min(self.retention.size);
        while self.ring.len() > len_max || self.ring_bytes > RING_BYTES_MAX {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.data().len();
        }
    }

    /// Forgets the publications that were let through; who comes back is served by the broker.
    pub fn forget(&mut self) {
        self.ring.clear();
        self.ring_bytes = 0;
    }

    /// Takes the broker's answer about a gap. None when it answers an older question.
    pub fn healed(&mut self, gap: Gap, recovery: Recovery) -> Option<Healed> {
        if gap.number != self.heals {
            return None;
        }
        let heal = self.heal.take()?;
        let is_first = self.top.is_none();
        let (Recovery::Whole { top, .. } | Recovery::Lost { top }) = recovery;
        let has_dropped = heal.has_dropped();
        let (settled, rest) = heal.split(top);
        let (turn, mut through) = self.turn(recovery);
        if turn == Turn::Lost {
            // Who counts positions is told and begins anew. All others still get what has come.
            for publication in settled {
                if !matches!(self.judge(&publication), Verdict::Known) {
                    self.top = publication.position();
                    through.push(publication);
                }
            }
            if let Some(latest) = through.last().filter(|it| it.position() == Some(top)).cloned() {
                self.remember(&latest);
            }
        } else {
            through.iter().for_each(|publication| self.remember(publication));
        }
        // Not that of the last publication: another server may have taken over after it.
        self.top = Some(top);
        if is_first {
            through.clear();
        }
        let flow = match has_dropped {
            true => Flow::Stopped(self.stop()),
            false => self.take(&rest, &mut through),
        };
        Some(Healed { turn, through, flow })
    }

    /// Goes to where the broker is; returns what subscribers have to know and what they get.
    fn turn(&mut self, recovery: Recovery) -> (Turn, Vec<Arc<Publication>>) {
        let old = self.top;
        match recovery {
            Recovery::Lost { .. } => {
                self.forget();
                (if old.is_some() { Turn::Lost } else { Turn::None }, Vec::new())
            }
            Recovery::Whole { base, top, publications } => {
                let same = old.is_none_or(|old| old.epoch == top.epoch && old.offset == base);
                if !same {
                    self.forget();
                }
                (if same { Turn::None } else { Turn::Moved }, publications)
            }
        }
    }

    /// Where a subscriber begins that comes now. `read` is what the broker answered when it was
    /// asked for what [`Begin::Read`] named.
    pub fn begin(&mut self, resume: Option<Resume>, read: Option<&Recovery>) -> Option<Begin> {
        let top = self.top.filter(|_| self.heal.is_none())?;
        let anew = Begin::At(Snapshot { position: Some(top), ..Snapshot::default() });
        let Some(resume) = resume else { return Some(anew) };
        let since = Position {
            offset: resume.since.offset,
            epoch: resume.since.epoch.unwrap_or(top.epoch),
        };
        if since.epoch.id != top.epoch.id {
            return Some(if resume.is_cache { self.latest(top, None, read) } else { anew });
        }
        if since.epoch == top.epoch && since.offset > top.offset {
            // It heard of it on another node before this one did; or it claims so. A heal tells.
            return Some(match read {
                None => Begin::Read(since),
                Some(Recovery::Lost { .. }) => anew,
                Some(Recovery::Whole { .. }) => Begin::Heal(self.stop()),
            });
        }
        if resume.is_cache {
            return Some(self.latest(top, Some(since), read));
        }
        let missed = (top.offset - since.offset.min(top.offset)) as usize;
        if since.epoch == top.epoch && missed <= self.ring.len() {
            if missed > resume.limit {
                return Some(anew);
            }
            let publications = self.ring.iter().skip(self.ring.len() - missed).cloned().collect();
            return Some(recovered(since, publications));
        }
        Some(match read {
            None => Begin::Read(since),
            Some(Recovery::Lost { .. }) => anew,
            Some(Recovery::Whole { base, top: read_top, publications }) => {
                let base = Position { offset: *base, epoch: top.epoch };
                match self.merged(top, *read_top, publications) {
                    Some(all) if all.len() > resume.limit => anew,
                    Some(all) => recovered(base, all),
                    None => Begin::Read(since),
                }
            }
        })
    }

    /// What was read up to `top`, and what came since it was read. None when there is a hole
    /// between the two.
    fn merged(
        &self,
        top: Position,
        read_top: Position,
        read: &[Arc<Publication>],
    ) -> Option<Vec<Arc<Publication>>> {
        let offset = |publication: &Publication| publication.position().map_or(0, |p| p.offset);
        if read_top.epoch != top.epoch {
            return None;
        }
        let newer = (top.offset - read_top.offset.min(top.offset)) as usize;
        let skipped = self.ring.len().checked_sub(newer)?;
        let old = read.iter().filter(|publication| offset(publication) <= top.offset);
        Some(old.chain(self.ring.iter().skip(skipped)).cloned().collect())
    }

    /// The latest publication, for a subscriber that wants no more than that.
    fn latest(&self, top: Position, since: Option<Position>, read: Option<&Recovery>) -> Begin {
        if since == Some(top) && top.offset > 0 {
            return recovered(top, Vec::new());
        }
        let before = Position { offset: top.offset.saturating_sub(1), ..top };
        let latest = match (self.ring.back(), read) {
            (None, None) if top.offset > 0 => return Begin::Read(before),
            (None, Some(Recovery::Whole { publications, .. })) => publications.last(),
            (latest, _) => latest,
        };
        match latest.filter(|latest| latest.position() == Some(top)) {
            Some(latest) => recovered(before, vec![Arc::clone(latest)]),
            None => Begin::At(Snapshot { position: Some(top), ..Snapshot::default() }),
        }
    }
}

fn recovered(position: Position, publications: Vec<Arc<Publication>>) -> Begin {
    Begin::At(Snapshot { position: Some(position), recovered: true, publications })
}

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
