//! The waiting room of publishes: first in, first out, and bounded in number, bytes and age.

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
    broker::{Publish, ReplyTo},
    error::PublishError,
    interest::Interest,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::metrics::LinkMetrics;

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
    /// Kept beside the state, to be asked before every publish.
    is_crowded: AtomicBool,
    bounds: QueueBounds,
    interest: Arc<Interest>,
    metrics: LinkMetrics,
}

struct State {
    /// What was sent and has to be sent again; it goes before all that waits.
    returned: VecDeque<Waiting>,
    waiting: VecDeque<Waiting>,
    /// Of both.
    bytes: usize,
    phase: Phase,
}

/// One publish that waits.
pub(crate) struct Waiting {
    pub(crate) publish: Publish,
    pub(crate) reply: ReplyTo,
    /// The id it was sent with; then it may have happened.
    pub(crate) sent: Option<MessageId>,
    since: Instant,
    has_returned: bool,
}

/// What tells a publish that was sent twice from two publishes: the process that sent it, in the
/// high half, and a number that grows with each.
pub(crate) type MessageId = u128;

impl Waiting {
    fn bytes(&self) -> usize {
        let publication = &self.publish.publication;
        let terms = self.publish.terms.as_deref();
        let terms = terms.map_or(0, |it| it.idempotency_key.len() + it.version_epoch.len());
        publication.data().len() + publication.channel().as_str().len() + terms
    }
}

impl State {
    /// The older ones of both kinds.
    fn fronts(&self) -> impl Iterator<Item = &Waiting> {
        self.returned.front().into_iter().chain(self.waiting.front())
    }

    fn pop(&mut self) -> Option<Waiting> {
        let next = self.returned.pop_front().or_else(|| self.waiting.pop_front())?;
        self.bytes -= next.bytes();
        Some(next)
    }

    fn pop_expired(&mut self, age: Duration) -> Option<Waiting> {
        for queue in [&mut self.returned, &mut self.waiting] {
            if queue.front().is_some_and(|oldest| oldest.since.elapsed() >= age) {
                let expired = queue.pop_front()?;
                self.bytes -= expired.bytes();
                return Some(expired);
            }
        }
        None
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
        let (returned, waiting) = (VecDeque::new(), VecDeque::new());
        let state = State { returned, waiting, bytes: 0, phase: Phase::Held };
        Self {
            state: Mutex::new(state),
            filled: Notify::new(),
            drained: Notify::new(),
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
            let waiting = Waiting { publish, reply, sent: None, since, has_returned: false };
            let bytes = state.bytes + waiting.bytes();
            // Alone in the room, one publish may exceed the bound: any message must pass.
            let is_full = state.waiting.len() >= self.bounds.publishes
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
    pub(crate) fn has_room(&self) -> bool {
        !self.is_crowded.load(Ordering::Acquire)
    }

    /// Waits until a publisher may go on. Cancel-safe.
    pub(crate) async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if self.has_room() {
                return;
            }
            drained.await;
        }
    }

    /// Waits until something waits. For the link only. Cancel-safe.
    pub(crate) async fn filled(&self) {
        while self.is_empty() {
            self.filled.notified().await;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().fronts().next().is_none()
    }

    /// Puts back what was sent and has to be sent again, in its order and before all that waits.
    /// Nobody knows what became of it until then, so the loss is when it begins to wait: what a
    /// silent server was given is old when the silence counts as a loss.
    pub(crate) fn put_back(&self, returned: impl DoubleEndedIterator<Item = Waiting>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for mut waiting in returned.rev() {
            if waiting.sent.is_some() && !mem::replace(&mut waiting.has_returned, true) {
                waiting.since = now;
            }
            state.bytes += waiting.bytes();
            state.returned.push_front(waiting);
        }
        self.note_crowd(&state);
    }

    /// Moves the oldest publishes that have not waited too long into `batch`: at most `count`, and
    /// none once there are `bytes`.
    pub(crate) fn take(&self, batch: &mut Vec<Waiting>, count: usize, bytes: usize) {
        self.refuse_expired();
        let mut state = self.state.lock();
        let mut taken_bytes = 0;
        while batch.len() < count
            && taken_bytes < bytes
            && let Some(waiting) = state.pop()
        {
            taken_bytes += waiting.bytes();
            batch.push(waiting);
        }
        self.note_crowd(&state);
    }

    /// Refuses whatever has waited too long, as soon as anything has. For the link only, while it
    /// takes nothing. Cancel-safe.
    pub(crate) async fn expire(&self) -> Infallible {
        loop {
            self.filled().await;
            let oldest = self.state.lock().fronts().map(|waiting| waiting.since).min();
            if let Some(oldest) = oldest {
                sleep_until(oldest + self.bounds.age).await;
                self.refuse_expired();
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
                iter::from_fn(|| state.pop()).collect()
            } else {
                Vec::new()
            }
        };
        for waiting in refused {
            self.refuse(waiting);
        }
    }

    fn refuse_expired(&self) {
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
        let error = match waiting.sent {
            None => PublishError::Refused,
            Some(_) => PublishError::Unknown,
        };
        self.metrics.count_outcome(&Err(error));
        waiting.reply.answer(&self.interest, Err(error));
    }

    /// An eighth of the bounds is where a flowing queue has become a pile.
    fn note_crowd(&self, state: &State) {
        let is_crowded = state.phase == Phase::Flowing
            && (state.waiting.len() >= self.bounds.publishes.div_ceil(8)
                || state.bytes >= self.bounds.bytes.div_ceil(8));
        let was_crowded = self.is_crowded.swap(is_crowded, Ordering::AcqRel);
        if was_crowded && !is_crowded {
            self.drained.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
