//! The waiting room of publishes: first in, first out, and bounded in number, bytes and age.

mod held;

mod state;

mod transit;

use std::{
    collections::VecDeque,
    convert::Infallible,
    iter, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dunlin_core::{
    broker::{Publish, ReplyTo, Room},
    error::PublishError,
    interest::Interest,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use self::{held::Held, state::State, transit::Transit};
use crate::{metrics::LinkMetrics, partition::Partition};

/// What may wait. Beyond it publishes are refused while Redis is away; while it is merely slow,
/// publishers are made to wait from an eighth of it on.
#[derive(Debug, Clone)]
pub struct QueueBounds {
    /// Most publishes.
    pub publishes: usize,
    /// Most bytes of payloads and channel names.
    pub bytes: usize,
    /// The longest wait.
    pub age: Duration,
}

impl Default for QueueBounds {
    fn default() -> Self {
        Self { publishes: 10_000, bytes: 16 << 20, age: Duration::from_secs(5) }
    }
}

/// Publishes on their way to the publish link, pushed by any thread.
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
    left: Notify,
    /// Kept beside the state, to be asked before every publish.
    is_crowded: AtomicBool,
    bounds: QueueBounds,
    interest: Arc<Interest>,
    metrics: LinkMetrics,
}

/// One publish that waits.
pub(crate) struct Waiting {
    pub(crate) publish: Publish,
    pub(crate) reply: ReplyTo,
    /// The id it was sent with.
    pub(crate) sent: Option<MessageId>,
    /// Whether a connection was lost that carried it.
    pub(crate) may_have_happened: bool,
    since: Instant,
}

/// What tells a publish that was sent twice from two publishes: the process that sent it, in the
/// high half, and a number that grows with each.
pub(crate) type MessageId = u128;

impl Waiting {
    /// What its publisher is told if it is not sent any more.
    pub(crate) fn lateness(&self) -> PublishError {
        match self.may_have_happened {
            true => PublishError::Unknown,
            false => PublishError::Refused,
        }
    }

    pub(crate) fn partition(&self) -> Partition {
        Partition::of(self.publish.publication.channel())
    }

    /// When it came.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    fn bytes(&self) -> usize {
        let publication = &self.publish.publication;
        let terms = self.publish.terms.as_deref();
        let terms = terms.map_or(0, |it| it.idempotency_key.len() + it.version_epoch.len());
        publication.data().len() + publication.channel().as_str().len() + terms
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The link takes publishes: whoever brings more than it takes is made to wait.
    Flowing,
    /// Nobody takes any: publishes gather up to the bounds, and those beyond are refused. What
    /// was beyond them already stays.
    Held,
    /// Nobody ever will.
    Closed,
}

impl Queue {
    pub(crate) fn new(bounds: QueueBounds, interest: Arc<Interest>, metrics: LinkMetrics) -> Self {
        let state = State {
            returned: VecDeque::new(),
            waiting: VecDeque::new(),
            held: Held::default(),
            transit: Transit::default(),
            bytes: 0,
            phase: Phase::Held,
        };
        Self {
            state: Mutex::new(state),
            filled: Notify::new(),
            drained: Notify::new(),
            left: Notify::new(),
            is_crowded: false.into(),
            bounds,
            interest,
            metrics,
        }
    }

    /// Queues one publisher's publishes in their order, or refuses those from the first on that
    /// exceeds the bounds while they are held: what fits behind it would leave a hole. While they
    /// flow whoever brings them awaits [`Queue::room`], and brings at most one read too many. The
    /// link is woken once, when all of them are there: what a client sent together goes to Redis
    /// together.
    pub(crate) fn push(&self, publishes: impl IntoIterator<Item = (Publish, ReplyTo)>) {
        let since = Instant::now();
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        let was_empty = state.waiting.is_empty();
        for (publish, reply) in publishes {
            let waiting = Waiting { publish, reply, sent: None, may_have_happened: false, since };
            let bytes = state.bytes + waiting.bytes();
            // Alone in the room, one publish may exceed the bound: any message must pass.
            let is_full = state.waiting.len() + state.held.waiting.len() >= self.bounds.publishes
                || (bytes > self.bounds.bytes && !state.waiting.is_empty());
            let is_refused = match state.phase {
                Phase::Flowing => false,
                Phase::Held => is_full,
                Phase::Closed => true,
            };
            if is_refused || !refused.is_empty() {
                refused.push(waiting);
            } else {
                state.waiting.push_back(waiting);
                state.bytes = bytes;
            }
        }
        self.note_crowd(&state);
        let is_filled = was_empty && !state.waiting.is_empty();
        drop(state);
        if is_filled {
            self.filled.notify_one();
        }
        for waiting in refused {
            self.refuse(waiting);
        }
    }

    /// Whether a publisher may go on. While publishes are held it may, up to the bounds.
    fn has_room(&self) -> bool {
        !self.is_crowded.load(Ordering::Acquire)
    }

    /// What a publisher has to wait for before it goes on, if anything.
    pub(crate) fn crowd(self: &Arc<Self>) -> Option<Room> {
        let queue = || {
            let queue = Arc::clone(self);
            Box::pin(async move { queue.room().await }) as Room
        };
        (!self.has_room()).then(queue)
    }

    /// Waits until a publisher may go on. Cancel-safe.
    async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if self.has_room() {
                return;
            }
            drained.await;
        }
    }

    /// Waits until something waits that may be sent. For the link only. Cancel-safe.
    pub(crate) async fn filled(&self) {
        while !self.state.lock().can_take() {
            self.filled.notified().await;
        }
    }

    /// The longest wait.
    pub(crate) fn age(&self) -> Duration {
        self.bounds.age
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().fronts().next().is_none()
    }

    /// Puts back what was sent and has to be sent again, in its order and before all that waits.
    pub(crate) fn put_back(&self, returned: impl DoubleEndedIterator<Item = Waiting>) {
        let mut state = self.state.lock();
        state.put_back(returned);
        self.note_crowd(&state);
    }

    /// Moves the oldest publishes that have not waited too long into `batch`: at most `count`, and
    /// none once there are `bytes`. What `admits` does not let pass is held until it is released,
    /// and so is what would overtake it in its channel.
    pub(crate) fn take(
        &self,
        batch: &mut Vec<Waiting>,
        count: usize,
        bytes: usize,
        admits: impl Fn(&Publish) -> bool,
    ) {
        self.refuse_expired();
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        let mut taken_bytes = 0;
        while batch.len() < count
            && taken_bytes < bytes
            && let Some(waiting) = state.pop()
        {
            let channel = waiting.publish.publication.channel();
            let is_held = state.held.channels.contains_key(channel) || state.transit.holds(channel);
            if !is_held && admits(&waiting.publish) {
                taken_bytes += waiting.bytes();
                batch.push(waiting);
            } else if state.held.waiting.len() < self.bounds.publishes
                && state.held.bytes < self.bounds.bytes
            {
                state.hold(waiting);
            } else {
                refused.push(waiting);
            }
        }
        self.note_crowd(&state);
        drop(state);
        for waiting in refused {
            self.refuse(waiting);
        }
    }

    /// What was held may be sent, or has to be looked at again.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.release();
        self.note_crowd(&state);
        let can_take = state.can_take();
        drop(state);
        if can_take {
            self.filled.notify_one();
        }
    }

    /// Refuses whatever has waited too long, as soon as anything has. For the link only, while it
    /// takes nothing. Cancel-safe.
    pub(crate) async fn expire(&self) -> Infallible {
        loop {
            let oldest = self.state.lock().fronts().map(|waiting| waiting.since).min();
            match oldest {
                Some(oldest) => {
                    sleep_until(oldest + self.bounds.age).await;
                    self.refuse_expired();
                }
                None => self.filled.notified().await,
            }
        }
    }

    /// Starts or ends a phase. Closing refuses all that waits.
    pub(crate) fn enter(&self, phase: Phase) {
        let refused = {
            let mut state = self.state.lock();
            if state.phase != Phase::Closed {
                state.phase = phase;
            }
            self.note_crowd(&state);
            if phase == Phase::Closed {
                let held = mem::take(&mut state.held).waiting;
                let rest: Vec<_> = iter::from_fn(|| state.pop()).chain(held).collect();
                state.bytes = 0;
                rest
            } else {
                Vec::new()
            }
        };
        for waiting in refused {
            self.refuse(waiting);
        }
    }

    pub(crate) fn refuse_expired(&self) {
        while let Some(expired) = self.pop_expired() {
            self.refuse(expired);
        }
    }

    fn pop_expired(&self) -> Option<Waiting> {
        let mut state = self.state.lock();
        let expired = state.pop_expired(self.bounds.age)?;
        self.note_crowd(&state);
        Some(expired)
    }

    fn refuse(&self, waiting: Waiting) {
        let error = waiting.lateness();
        self.metrics.count_outcome(&Err(error));
        waiting.reply.answer(&self.interest, Err(error));
    }

    /// An eighth of the bounds is where a flowing queue has become a pile.
    fn note_crowd(&self, state: &State) {
        let is_crowded = state.phase == Phase::Flowing
            && (state.waiting.len() >= self.bounds.publishes.div_ceil(8)
                || state.bytes - state.held.bytes >= self.bounds.bytes.div_ceil(8));
        let was_crowded = self.is_crowded.swap(is_crowded, Ordering::AcqRel);
        if was_crowded && !is_crowded {
            self.drained.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
