//! Questions about streams that wait for somebody to put them to the broker: first those that
//! somebody waits for, then gaps, then whether streams are where they should be.

use std::{collections::VecDeque, mem, time::Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    channel::ChannelName,
    stream::{Ask, Gap, Progress},
};

/// Bytes of pages that may be on their way at a time: what is asked behind them waits no longer
/// than they take.
const PAGE_BYTES_IN_FLIGHT: usize = 4 << 20;

/// Pages that may be on their way at a time: fewer than there are healers, so that some are left.
const PAGES_IN_FLIGHT: usize = HEALERS * 3 / 4;

/// Tasks that put questions to the broker side by side.
pub const HEALERS: usize = 128;

/// Positions that are asked for together.
const POSITIONS_TOGETHER: usize = 256;

/// Audits that may be on their way at a time: whoever joins meanwhile waits behind them.
const AUDITS_IN_FLIGHT: usize = 2;

/// How urgent it is to know where a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody waits for the first answer of a stream.
    Join,
    /// The stream has stopped.
    Return,
    /// The stream goes on meanwhile.
    Audit,
}

/// What to put to the broker next.
#[derive(Debug)]
pub enum Question {
    /// Where these channels are.
    Positions(Vec<(ChannelName, Gap)>),
    /// The same, and nobody waits for it.
    Audit(Vec<(ChannelName, Gap)>),
    /// A page of what a channel's stream misses.
    Page(ChannelName, Gap),
}

/// Questions, each kind in the order in which they came up.
#[derive(Default)]
pub(super) struct Heals {
    queues: Mutex<Queues>,
    filled: Notify,
}

#[derive(Default)]
struct Queues {
    joins: VecDeque<(ChannelName, Gap)>,
    returns: VecDeque<(ChannelName, Gap)>,
    audits: VecDeque<(ChannelName, Gap)>,
    audits_in_flight: usize,
    pages: VecDeque<(ChannelName, Gap)>,
    pages_in_flight: usize,
    bytes_in_flight: usize,
    /// Those that could not be answered.
    later: Vec<(ChannelName, Gap, Urgency)>,
    /// Since when which streams have been where they are, the longest first.
    begun: VecDeque<(Instant, ChannelName, Progress)>,
}

impl Heals {
    pub(super) fn push(&self, channel: ChannelName, gap: Gap, urgency: Urgency) {
        self.queues.lock().push(channel, gap, urgency);
        self.filled.notify_one();
    }

    /// Whether so many audits wait that there is no use in more.
    pub(super) fn is_auditing(&self) -> bool {
        !self.queues.lock().audits.is_empty()
    }

    /// Cancel-safe.
    pub(super) async fn next(&self) -> Question {
        loop {
            let next = self.queues.lock().next();
            match next {
                Some(next) => {
                    // There may be more, for others who wait.
                    self.filled.notify_one();
                    return next;
                }
                None => self.filled.notified().await,
            }
        }
    }

    /// Notes that a page came, or will not.
    pub(super) fn end_page(&self, gap: Gap) {
        {
            let mut queues = self.queues.lock();
            queues.pages_in_flight -= 1;
            queues.bytes_in_flight -= gap.bytes();
        }
        self.filled.notify_one();
    }

    /// Notes that an audit was answered, or will not be.
    pub(super) fn end_audit(&self) {
        self.queues.lock().audits_in_flight -= 1;
        self.filled.notify_one();
    }

    /// Keeps a question that could not be answered for a later try.
    pub(super) fn postpone(&self, channel: ChannelName, gap: Gap, urgency: Urgency) {
        self.queues.lock().later.push((channel, gap, urgency));
    }

    /// Lets the postponed be tried again.
    pub(super) fn resume(&self) {
        let mut queues = self.queues.lock();
        for (channel, gap, urgency) in mem::take(&mut queues.later) {
            queues.push(channel, gap, urgency);
        }
        drop(queues);
        self.filled.notify_one();
    }

    /// Notes how far the heal of a stream is now.
    pub(super) fn note_progress(&self, channel: ChannelName, progress: Progress, now: Instant) {
        self.queues.lock().begun.push_back((now, channel, progress));
    }

    /// The heals that were as far as this before `then`.
    pub(super) fn take_begun_before(&self, then: Instant) -> Vec<(ChannelName, Progress)> {
        let mut queues = self.queues.lock();
        let count = queues.begun.partition_point(|(at, ..)| *at < then);
        queues.begun.drain(..count).map(|(_, channel, progress)| (channel, progress)).collect()
    }
}

impl Queues {
    fn push(&mut self, channel: ChannelName, gap: Gap, urgency: Urgency) {
        let queue = match (gap.ask, urgency) {
            (Ask::Page { .. }, _) => &mut self.pages,
            (Ask::Position, Urgency::Join) => &mut self.joins,
            (Ask::Position, Urgency::Return) => &mut self.returns,
            (Ask::Position, Urgency::Audit) => &mut self.audits,
        };
        queue.push_back((channel, gap));
    }

    fn next(&mut self) -> Option<Question> {
        if self.joins.is_empty()
            && let Some((channel, gap)) = self.next_page()
        {
            return Some(Question::Page(channel, gap));
        }
        let mut positions = Vec::new();
        for queue in [&mut self.joins, &mut self.returns] {
            let room = POSITIONS_TOGETHER - positions.len();
            positions.extend(queue.drain(..queue.len().min(room)));
        }
        if !positions.is_empty() {
            return Some(Question::Positions(positions));
        }
        self.next_audit()
    }

    fn next_audit(&mut self) -> Option<Question> {
        if self.audits.is_empty() || self.audits_in_flight == AUDITS_IN_FLIGHT {
            return None;
        }
        self.audits_in_flight += 1;
        let count = self.audits.len().min(POSITIONS_TOGETHER);
        Some(Question::Audit(self.audits.drain(..count).collect()))
    }

    fn next_page(&mut self) -> Option<(ChannelName, Gap)> {
        let bytes = self.pages.front()?.1.bytes();
        let has_room = self.pages_in_flight == 0
            || self.pages_in_flight < PAGES_IN_FLIGHT
                && self.bytes_in_flight + bytes <= PAGE_BYTES_IN_FLIGHT;
        if !has_room {
            return None;
        }
        let next = self.pages.pop_front()?;
        self.pages_in_flight += 1;
        self.bytes_in_flight += bytes;
        Some(next)
    }
}
