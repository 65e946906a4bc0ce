//! What the broker's answers mean to a stream.

use std::{sync::Arc, time::Instant};

use super::{Flow, Gap, Healed, Stream, Turn, Verdict, heal::Heal};
use crate::{
    history::Recovery,
    position::{Epoch, Position},
    publication::Publication,
};

/// Earlier branches of which it is remembered what they have in common with the present one.
const COMMON_MAX: usize = 4;

impl Stream {
    /// Gives up what could not be healed: subscribers are told, and the stream begins anew. What
    /// has no position is let through; what has one is of the past that is given up.
    pub fn give_up(&mut self) -> Healed {
        let turn = if self.top.is_some() { Turn::Lost } else { Turn::None };
        self.forget();
        self.common.clear();
        (self.top, self.gone) = (None, None);
        let through = self.heal.take().map(Heal::into_loose).unwrap_or_default();
        let flow = Flow::Stopped(self.stop());
        Healed { turn, through, flow }
    }

    /// Takes the broker's answer where the channel is. None when it answers an older question or
    /// changes nothing.
    pub fn located(&mut self, gap: Gap, position: Position, now: Instant) -> Option<Healed> {
        if !self.waits_for(gap) {
            return None;
        }
        let is_there = match self.top {
            None => true,
            // What came since it was asked may be more than the answer knows of.
            Some(top) if self.heal.is_none() && position.epoch == top.epoch => {
                position.offset <= top.offset
            }
            Some(top) => position == top,
        };
        if is_there {
            let publications = Vec::new();
            return self.heal.is_some().then(|| {
                let ttl = self.retention.ttl;
                self.settle(Recovery::Page { top: position, publications, ttl }, now)
            });
        }
        let missing = position.offset.saturating_sub(self.top.map_or(0, |top| top.offset));
        // Of a heal that is under way this is the next step.
        self.heal.get_or_insert_with(|| Heal::begun(self.number.question)).ask_after_all();
        let flow = Flow::Stopped(self.ask_page(Some(missing)));
        Some(Healed { turn: Turn::None, through: Vec::new(), flow })
    }

    /// Takes the broker's answer about a gap. None when it answers an older question.
    pub fn healed(&mut self, gap: Gap, recovery: Recovery, now: Instant) -> Option<Healed> {
        (self.waits_for(gap) && self.heal.is_some()).then(|| self.settle(recovery, now))
    }

    /// Lets through what the broker told, and all that waited for it once that was the last page.
    fn settle(&mut self, recovery: Recovery, now: Instant) -> Healed {
        let old = self.top;
        let (turn, mut through, top, ttl) = match recovery {
            Recovery::Lost { top } => (self.lose(), Vec::new(), top, self.retention.ttl),
            Recovery::Page { top, publications, ttl } => {
                (self.turn_to(top.epoch), publications, top, ttl)
            }
        };
        let Some(mut heal) = self.heal.take() else {
            return Healed { turn, through, flow: Flow::On };
        };
        for publication in &through {
            self.ring.push(publication, now + ttl, self.retention.size);
        }
        let end = through.last().and_then(|last| last.position()).or(old).map(|end| end.offset);
        if let Some(end) = end.filter(|end| turn != Turn::Lost && *end < top.offset) {
            // There is more.
            self.top = Some(Position { offset: end, epoch: top.epoch });
            if through.is_empty() {
                // A broker that says so contradicts itself; nobody waits for it for ever.
                self.heal = Some(heal);
                return self.give_up();
            }
            heal.note_page();
            heal.ask_after_all();
            self.heal = Some(heal);
            let flow = Flow::Stopped(self.ask_page(Some(top.offset - end)));
            return Healed { turn, through, flow };
        }
        let has_dropped = heal.has_dropped();
        let (settled, rest) = heal.split(top);
        if turn == Turn::Lost {
            self.let_through_all_the_same(settled, top, now, &mut through);
        }
        // Not that of the last publication: another server may have taken over after it.
        self.top = Some(top);
        if old.is_none() {
            through.clear();
        }
        let flow = match has_dropped {
            true => Flow::Stopped(self.stop_before(&[], &mut through)),
            false => self.take(&rest, now, &mut through),
        };
        Healed { turn, through, flow }
    }

    /// Who counts positions is told of a loss and begins anew. All others still get what has come.
    fn let_through_all_the_same(
        &mut self,
        settled: Vec<Arc<Publication>>,
        top: Position,
        now: Instant,
        through: &mut Vec<Arc<Publication>>,
    ) {
        for publication in settled {
            if !matches!(self.judge(&publication), Verdict::Known) {
                self.top = publication.position();
                through.push(publication);
            }
        }
        if let Some(latest) = through.last().filter(|it| it.position() == Some(top)).cloned() {
            self.remember(&latest, now);
        }
    }

    fn lose(&mut self) -> Turn {
        self.forget();
        self.common.clear();
        self.gone = None;
        if self.top.is_some() { Turn::Lost } else { Turn::None }
    }

    /// Notes that what follows is of this epoch. What the stream has is common to both.
    fn turn_to(&mut self, epoch: Epoch) -> Turn {
        let Some(old) = self.top.filter(|old| old.epoch != epoch) else { return Turn::None };
        self.note_common(old);
        self.gone = None;
        Turn::Moved
    }

    pub(super) fn note_common(&mut self, position: Position) {
        self.common.retain(|known| known.epoch != position.epoch);
        if self.common.len() == COMMON_MAX {
            self.common.remove(0);
        }
        self.common.push(position);
    }
}
