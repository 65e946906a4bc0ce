//! Where a subscriber begins, and what it gets first.

use std::{sync::Arc, time::Instant};

use super::{Gap, Stream};
use crate::{
    history::{Recovery, Since},
    position::Position,
    publication::Publication,
};

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

/// What the broker answered for those who come back.
#[derive(Debug)]
pub struct Read {
    /// The position it was asked about.
    pub since: Position,
    /// The answer; all pages of it.
    pub recovery: Recovery,
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

impl Read {
    /// What this tells somebody at another position. Who was further has what it needs in the
    /// same answer; what is gone for one is gone for those that were behind.
    fn about(&self, since: Position) -> Option<&Recovery> {
        let is_told = self.since.epoch == since.epoch
            && match &self.recovery {
                Recovery::Page { top, .. } => {
                    self.since == since
                        || self.since.offset <= since.offset && since.offset <= top.offset
                }
                Recovery::Lost { .. } => self.since == since,
            };
        is_told.then_some(&self.recovery)
    }
}

impl Stream {
    /// Where a subscriber begins that comes now. `read` is what the broker answered when it was
    /// asked for what [`Begin::Read`] named, or somebody else's did.
    pub fn begin(
        &mut self,
        resume: Option<Resume>,
        read: Option<&Read>,
        now: Instant,
    ) -> Option<Begin> {
        let top = self.top.filter(|_| self.heal.is_none())?;
        let anew = Begin::At(Snapshot { position: Some(top), ..Snapshot::default() });
        let Some(resume) = resume else { return Some(anew) };
        self.ring.expire(now);
        let (offset, epoch) = (resume.since.offset, resume.since.epoch.unwrap_or(top.epoch));
        let since = self.in_this_branch(Position { offset, epoch }, top);
        let read = read.map(|read| (read, read.about(since)));
        let answer = read.and_then(|(_, answer)| answer);
        if since.epoch.id != top.epoch.id {
            return Some(if resume.is_cache { self.latest(top, None, read) } else { anew });
        }
        if since.epoch == top.epoch && since.offset > top.offset {
            // It heard of it on another node before this one did; or it claims so. A heal tells.
            return Some(match answer {
                None => Begin::Read(since),
                Some(Recovery::Lost { .. }) => anew,
                Some(Recovery::Page { .. }) => Begin::Heal(self.stop_before(&[], &mut Vec::new())),
            });
        }
        if resume.is_cache {
            return Some(self.latest(top, Some(since), read));
        }
        if since.epoch == top.epoch {
            let missed = usize::try_from(top.offset - since.offset).unwrap_or(usize::MAX);
            let is_gone = self.gone.is_some_and(|gone| since.offset <= gone.offset);
            if missed > resume.limit || is_gone {
                return Some(anew);
            }
            if let Some(publications) = self.ring.tail(missed) {
                return Some(recovered(since, publications.cloned().collect()));
            }
        }
        let Some(answer) = answer else { return Some(Begin::Read(since)) };
        Some(match self.merged(since, top, answer, now) {
            Merged::Gone => anew,
            Merged::Hole => Begin::Read(since),
            Merged::All(all) if all.len() > resume.limit => anew,
            Merged::All(all) => recovered(Position { epoch: top.epoch, ..since }, all),
        })
    }

    /// A position as the present branch has it, if it is known that what came before is common.
    fn in_this_branch(&self, position: Position, top: Position) -> Position {
        let is_common =
            |known: &&Position| known.epoch == position.epoch && known.offset >= position.offset;
        match self.common.iter().find(is_common) {
            Some(_) => Position { epoch: top.epoch, ..position },
            None => position,
        }
    }

    /// What was read, and what came since it was read. The ring takes of it what it has room for,
    /// for the others who come back.
    fn merged(&mut self, since: Position, top: Position, read: &Recovery, now: Instant) -> Merged {
        let (read_top, publications, ttl) = match read {
            Recovery::Lost { .. } => {
                if since.epoch == top.epoch {
                    self.gone = Some(since);
                }
                return Merged::Gone;
            }
            Recovery::Page { top, publications, ttl } => (*top, publications, *ttl),
        };
        let newer = (top.offset - read_top.offset.min(top.offset)) as usize;
        if read_top.epoch != top.epoch || newer > self.ring.len() {
            return Merged::Hole;
        }
        if since.epoch != top.epoch {
            self.note_common(since);
        }
        let offset = |publication: &Publication| publication.position().map_or(0, |p| p.offset);
        let ring_begins_behind = top.offset - self.ring.len() as u64;
        let older = publications.iter().filter(|it| offset(it) <= ring_begins_behind);
        if publications.last().is_some_and(|last| offset(last) >= ring_begins_behind) {
            self.ring.fill(older, now + ttl, self.retention.size);
        }
        let is_missed =
            |it: &&Arc<Publication>| (since.offset + 1..=top.offset).contains(&offset(it));
        let old = publications.iter().filter(is_missed);
        let new = self.ring.tail(newer).into_iter().flatten();
        let new = new.filter(|it| offset(it) > since.offset);
        Merged::All(old.chain(new).cloned().collect())
    }

    /// The latest publication, for a subscriber that wants no more than that.
    fn latest(
        &mut self,
        top: Position,
        since: Option<Position>,
        read: Option<(&Read, Option<&Recovery>)>,
    ) -> Begin {
        if since == Some(top) && top.offset > 0 {
            return recovered(top, Vec::new());
        }
        let before = Position { offset: top.offset.saturating_sub(1), ..top };
        let latest = match (self.ring.last(), read) {
            (None, None) if top.offset > 0 => return Begin::Read(before),
            (None, Some((Read { recovery: Recovery::Page { publications, .. }, .. }, _))) => {
                publications.last()
            }
            (latest, _) => latest,
        };
        // What another server took over without writing anything since is of an earlier branch.
        let is_latest = |it: &&Arc<Publication>| {
            it.position().is_some_and(|it| it.offset == top.offset && it.epoch.id == top.epoch.id)
        };
        match latest.filter(is_latest) {
            Some(latest) => recovered(before, vec![Arc::clone(latest)]),
            None => Begin::At(Snapshot { position: Some(top), ..Snapshot::default() }),
        }
    }
}

/// What was read and what the stream has, put together.
enum Merged {
    All(Vec<Arc<Publication>>),
    /// There is a hole between the two: it has to be read anew.
    Hole,
    /// The broker does not have it any more.
    Gone,
}

fn recovered(position: Position, publications: Vec<Arc<Publication>>) -> Begin {
    Begin::At(Snapshot { position: Some(position), recovered: true, publications })
}
