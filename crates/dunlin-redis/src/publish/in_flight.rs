//! Publishes that were written and not answered yet, and what becomes of them when the connection
//! goes.

use std::{collections::VecDeque, mem, sync::Arc};

use bytes::Bytes;
use dunlin_core::{
    broker::ReplyTo,
    error::{PublishError, PublishOutcome},
    interest::Interest,
    position::Position,
};

use crate::{
    envelope,
    link::{error::LinkError, value::Value},
    metrics::LinkMetrics,
    queue::{Queue, Waiting},
    script,
};

/// What is unanswered, in order. When the connection goes, what cannot be repeated is unknown: it
/// happened or not. The rest goes back to the queue.
pub(super) struct InFlight {
    sent: VecDeque<(Sent, u64)>,
    /// Publishes whose script the server did not know: they did not happen.
    returned: Vec<Waiting>,
    batch: u64,
    queue: Arc<Queue>,
    interest: Arc<Interest>,
    metrics: LinkMetrics,
    /// Whether this connection's first rejected publish was logged.
    has_warned: bool,
}

/// What one command carries.
pub(super) enum Sent {
    /// A publish of which nothing tells whether it happened but the answer.
    Once(ReplyTo),
    /// Publishes that Redis can be asked about.
    Repeatable(Vec<Waiting>),
}

impl Sent {
    fn replies(self) -> Vec<ReplyTo> {
        match self {
            Self::Once(reply) => vec![reply],
            Self::Repeatable(together) => together.into_iter().map(|it| it.reply).collect(),
        }
    }
}

impl InFlight {
    pub(super) fn new(queue: Arc<Queue>, interest: Arc<Interest>, metrics: LinkMetrics) -> Self {
        let (sent, returned) = (VecDeque::new(), Vec::new());
        Self { sent, returned, batch: 0, queue, interest, metrics, has_warned: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether another batch may be sent. None may while some publishes of an older one have to be
    /// sent again.
    pub(super) fn has_room(&self) -> bool {
        let has_batch = self.sent.front().is_none_or(|(_, oldest)| self.batch - oldest < BATCHES);
        has_batch && self.returned.is_empty()
    }

    pub(super) fn push(&mut self, sent: Sent) {
        self.sent.push_back((sent, self.batch));
    }

    /// What is pushed from now on is another batch, if this one is not empty.
    pub(super) fn end_batch(&mut self) {
        if self.sent.back().is_some_and(|(_, newest)| *newest == self.batch) {
            self.batch += 1;
        }
    }

    /// Puts back what has to be sent again, as soon as nothing is unanswered. True when it did.
    pub(super) fn put_back(&mut self) -> bool {
        let is_time = self.sent.is_empty() && !self.returned.is_empty();
        if is_time {
            self.queue.put_back(self.returned.drain(..));
        }
        is_time
    }

    /// Takes the answer to the oldest.
    pub(super) fn receive(&mut self, answer: Value) -> Result<(), LinkError> {
        let Some((sent, _)) = self.sent.pop_front() else {
            return Err(unexpected("a reply to no publish"));
        };
        match (sent, answer) {
            (Sent::Repeatable(together), Value::Error(text)) if script::tells_unknown(&text) => {
                for mut waiting in together {
                    waiting.sent = None;
                    self.returned.push(waiting);
                }
            }
            (Sent::Once(reply), Value::Integer(receivers)) => {
                let outcome = plain_outcome(&reply, receivers);
                self.answer(reply, outcome);
            }
            (Sent::Repeatable(together), Value::Bulk(first)) => {
                let first = kept_position(&first)?;
                for (waiting, place) in together.into_iter().zip(0..) {
                    let at = |first: Position| Position { offset: first.offset + place, ..first };
                    self.answer(waiting.reply, Ok(first.map(at)));
                }
            }
            (Sent::Repeatable(together), Value::Null) => {
                for waiting in together {
                    self.answer(waiting.reply, Err(PublishError::Unknown));
                }
            }
            (sent, Value::Error(text)) => {
                self.note_rejection(&text);
                for reply in sent.replies() {
                    self.answer(reply, Err(PublishError::Rejected));
                }
            }
            _ => return Err(unexpected("a reply that no publish has")),
        }
        Ok(())
    }

    fn answer(&self, reply: ReplyTo, outcome: PublishOutcome) {
        self.metrics.count_outcome(&outcome);
        reply.answer(&self.interest, outcome);
    }

    /// Tells the operator once: what is published where is up to clients, and so are more lines.
    fn note_rejection(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        if mem::replace(&mut self.has_warned, true) {
            tracing::debug!("redis rejected a publish: {text}");
        } else {
            tracing::warn!("redis rejected a publish: {text}");
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut returned = mem::take(&mut self.returned);
        for (sent, _) in mem::take(&mut self.sent) {
            match sent {
                Sent::Once(reply) => self.answer(reply, Err(PublishError::Unknown)),
                Sent::Repeatable(together) => returned.extend(together),
            }
        }
        self.queue.put_back(returned.into_iter());
    }
}

/// What it means that Redis counted so many receivers. A connection that publishes is a subscriber
/// of its channel on this node, so nobody means: Redis has lost this node's subscriptions and the
/// node has not noticed yet. Nobody got it, and its publisher is told. Other callers may well
/// publish to nobody.
fn plain_outcome(reply: &ReplyTo, receivers: i64) -> PublishOutcome {
    match reply {
        ReplyTo::Connection(_) if receivers == 0 => Err(PublishError::Refused),
        _ => Ok(None),
    }
}

/// What a script answers: a position, or nothing in its place for what is not kept.
fn kept_position(answer: &Bytes) -> Result<Option<Position>, LinkError> {
    match &answer[..] {
        [] => Ok(None),
        bytes => match envelope::position(bytes) {
            Some(position) => Ok(Some(position)),
            None => Err(unexpected("an answer that is no position")),
        },
    }
}

fn unexpected(what: &str) -> LinkError {
    LinkError::Protocol(what.to_owned())
}

/// One that Redis works on and one on its way.
const BATCHES: u64 = 2;
