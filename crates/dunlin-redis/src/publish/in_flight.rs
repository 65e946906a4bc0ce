//! Publishes that were written and not answered yet, and what becomes of them when the connection
//! goes.

use std::{collections::VecDeque, mem, sync::Arc};

use dunlin_core::{
    broker::ReplyTo,
    error::{PublishError, PublishOutcome},
    interest::Interest,
    position::Position,
};
use tokio::time::Instant;

use super::{
    elsewhere::Elsewhere,
    sent::{Own, Sent, Transaction},
    tail::Tail,
};
use crate::{
    envelope,
    link::{
        error::{LinkError, tells_demoted, tells_elsewhere, tells_not_ready},
        value::Value,
    },
    metrics::LinkMetrics,
    partition::Partition,
    queue::{Queue, Waiting},
    script,
};

/// What is unanswered, in order. When the connection goes, what cannot be repeated is unknown: it
/// happened or not. The rest goes back to the queue.
pub(super) struct InFlight {
    sent: VecDeque<(Sent, u64)>,
    /// Publishes that the server did not do, to be sent again.
    returned: Vec<Waiting>,
    pub(super) elsewhere: Elsewhere,
    /// Whether the server has said so since that was last asked.
    was_sent_elsewhere: bool,
    /// Why the connection is of no use, once nothing is unanswered.
    leaving: Option<LinkError>,
    batch: u64,
    /// What was acknowledged.
    pub(super) tail: Tail,
    queue: Arc<Queue>,
    interest: Arc<Interest>,
    metrics: LinkMetrics,
    /// Whether a rejected publish was logged on this connection.
    has_warned: bool,
}

/// The answer to what no publisher waits for.
pub(super) struct Answered {
    pub(super) own: Own,
    pub(super) answer: Value,
}

impl InFlight {
    pub(super) fn new(queue: Arc<Queue>, interest: Arc<Interest>, metrics: LinkMetrics) -> Self {
        Self {
            sent: VecDeque::new(),
            returned: Vec::new(),
            elsewhere: Elsewhere::default(),
            was_sent_elsewhere: false,
            leaving: None,
            batch: 0,
            tail: Tail::default(),
            queue,
            interest,
            metrics,
            has_warned: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.iter().all(|(sent, _)| sent.is_over())
    }

    /// Whether another batch may be sent. None may while some publishes of an older one have to be
    /// sent again.
    pub(super) fn has_room(&self) -> bool {
        let is_publish = |(sent, _): &&(Sent, u64)| !matches!(sent, Sent::Own(_));
        let oldest = self.sent.iter().find(is_publish);
        let has_batch = oldest.is_none_or(|(_, oldest)| self.batch - oldest < BATCHES);
        has_batch && self.returned.is_empty() && self.leaving.is_none()
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

    /// Puts back what the server did not know how to do, as soon as nothing is unanswered. True
    /// when it did.
    pub(super) fn put_back_unknown(&mut self) -> bool {
        let is_time = !self.returned.is_empty() && self.is_empty() && self.leaving.is_none();
        if is_time {
            self.elsewhere.try_anew();
            self.queue.put_back(self.returned.drain(..));
        }
        is_time
    }

    /// Why the server does nothing now, as soon as it has said so to all that it was sent.
    pub(super) fn leave(&mut self) -> Result<(), LinkError> {
        match self.leaving.take_if(|_| self.sent.iter().all(|(sent, _)| sent.is_over())) {
            Some(lost) => Err(lost),
            None => Ok(()),
        }
    }

    /// The connection is gone, and nothing of it happens any more: puts back what can be repeated.
    pub(super) fn put_back_all(&mut self) {
        (self.has_warned, self.leaving) = (false, None);
        self.elsewhere.clear_all();
        // They were sent before all that is unanswered.
        let mut returned = mem::take(&mut self.returned);
        for (mut sent, _) in mem::take(&mut self.sent) {
            match sent {
                Sent::Repeatable(mut together) => {
                    together.iter_mut().for_each(|it| it.may_have_happened = true);
                    returned.extend(together);
                }
                _ => self.give_up(sent.take()),
            }
        }
        self.queue.put_back(returned.into_iter());
    }

    /// The connection is gone, and what it carried may still happen: nothing is repeated.
    pub(super) fn give_up_all(&mut self) {
        for (mut sent, _) in mem::take(&mut self.sent) {
            self.give_up(sent.take());
        }
        self.put_back_all();
    }

    /// Answers those whose publishers were promised an answer by now.
    pub(super) fn expire(&mut self, now: Instant) {
        let age = self.queue.age();
        let is_old = |sent: &Sent| sent.since().is_some_and(|since| now - since >= age);
        let old = self.sent.iter_mut().filter(|(sent, _)| is_old(sent));
        let old: Vec<_> = old.flat_map(|(sent, _)| sent.take()).collect();
        if !old.is_empty() {
            self.elsewhere.clear_all();
        }
        self.give_up(old);
        let is_old = |waiting: &mut Waiting| now - waiting.since() >= age;
        let old: Vec<_> = self.returned.extract_if(.., is_old).collect();
        for waiting in old {
            let error = waiting.lateness();
            self.answer(waiting.reply, Err(error));
        }
    }

    fn give_up(&self, publishes: Vec<Waiting>) {
        for waiting in publishes {
            self.answer(waiting.reply, Err(PublishError::Unknown));
        }
    }

    /// Takes the answer to the oldest. That to the lane's own is the caller's.
    pub(super) fn receive(&mut self, answer: Value) -> Result<Option<Answered>, LinkError> {
        if let Some((Sent::Together(transaction), _)) = self.sent.front_mut()
            && transaction.queued > 0
        {
            transaction.note_queued(answer);
            return Ok(None);
        }
        let Some((sent, _)) = self.sent.pop_front() else {
            return Err(unexpected("a reply to no publish"));
        };
        match sent {
            Sent::Own(own) => match answer {
                Value::Error(text) if changes_all(&text) => self.leave_for(&text),
                answer => return Ok(Some(Answered { own, answer })),
            },
            Sent::GivenUp => {}
            Sent::Repeatable(together) => self.receive_repeatable(together, answer)?,
            Sent::Together(transaction) => self.receive_transaction(transaction, answer)?,
        }
        Ok(None)
    }

    fn receive_repeatable(
        &mut self,
        together: Vec<Waiting>,
        answer: Value,
    ) -> Result<(), LinkError> {
        match answer {
            Value::Error(text) if script::tells_unknown(&text) => self.did_not_happen(together),
            Value::Error(text) if tells_elsewhere(&text) => self.is_elsewhere(together),
            // Another server, or this one later, will do it.
            Value::Error(text) if changes_all(&text) => {
                self.did_not_happen(together);
                self.leave_for(&text);
            }
            Value::Error(text) => self.reject(together, &text),
            Value::Bulk(first) => {
                self.note_there(&together);
                self.accept(together, &first)?;
            }
            Value::Null => {
                self.note_there(&together);
                self.give_up(together);
            }
            _ => {
                self.give_up(together);
                return Err(unexpected("a reply that no publish has"));
            }
        }
        Ok(())
    }

    /// Takes an answer that they are kept, and where the first of them is.
    fn accept(&mut self, together: Vec<Waiting>, first: &[u8]) -> Result<(), LinkError> {
        let (first, is_stored) = match first.split_last() {
            // Another one, or none, stands there for it.
            Some((_, other)) if first.len() % 8 == 1 => (kept_position(other), false),
            _ => (kept_position(first), true),
        };
        let first = match first {
            Ok(first) => first,
            Err(error) => {
                self.give_up(together);
                return Err(error);
            }
        };
        let now = Instant::now();
        for (waiting, place) in together.into_iter().zip(0..) {
            let at = |first: Position| Position { offset: first.offset + place, ..first };
            let position = first.map(at);
            self.answer(waiting.reply, Ok(position));
            if let (Some(position), Some(id), true) = (position, waiting.sent, is_stored) {
                self.tail.push(waiting.publish, id, position, now);
            }
        }
        Ok(())
    }

    fn receive_transaction(
        &mut self,
        transaction: Transaction,
        answer: Value,
    ) -> Result<(), LinkError> {
        let Transaction { together, refusal, has_leaked, .. } = transaction;
        match answer {
            Value::Array(counts) => {
                self.note_there(&together);
                // The first is that of the write that only a primary takes.
                for (waiting, count) in together.into_iter().zip(counts.into_iter().skip(1)) {
                    let outcome = plain_outcome(&waiting.reply, &count);
                    self.answer(waiting.reply, outcome);
                }
            }
            Value::Error(_) if has_leaked => self.give_up(together),
            Value::Error(text) if tells_elsewhere(&text) => self.is_elsewhere(together),
            Value::Error(text) => {
                // Why it was dropped, and not that it was.
                let text = refusal.unwrap_or(text);
                if script::tells_unknown(&text) {
                    self.did_not_happen(together);
                } else if changes_all(&text) {
                    self.did_not_happen(together);
                    self.leave_for(&text);
                } else {
                    self.reject(together, &text);
                }
            }
            _ => {
                self.give_up(together);
                return Err(unexpected("a reply that no transaction has"));
            }
        }
        Ok(())
    }

    fn note_there(&mut self, together: &[Waiting]) {
        if let Some(first) = together.first() {
            self.elsewhere.clear(|| first.partition());
        }
    }

    fn reject(&mut self, together: Vec<Waiting>, text: &[u8]) {
        self.note_there(&together);
        self.note_rejection(text);
        for waiting in together {
            self.answer(waiting.reply, Err(PublishError::Rejected));
        }
    }

    /// What was sent behind this gets an answer too, which tells of it that it did not happen.
    fn leave_for(&mut self, text: &[u8]) {
        self.leaving.get_or_insert_with(|| loss(text));
    }

    /// The partition, for all go together, is another server's, or nobody's at the moment. If a
    /// younger publish of the channel was done all the same, these come too late: their ids stay,
    /// by which the server sees it.
    fn is_elsewhere(&mut self, together: Vec<Waiting>) {
        let partition = together.first().map(Waiting::partition);
        partition.into_iter().for_each(|partition| self.elsewhere.note(partition));
        self.was_sent_elsewhere = true;
        self.returned.extend(together);
    }

    /// Whether the server has said since the last call that something is elsewhere.
    pub(super) fn take_elsewhere(&mut self) -> bool {
        mem::take(&mut self.was_sent_elsewhere)
    }

    /// Whether something of a partition has no answer yet.
    pub(super) fn has(&self, partition: Partition) -> bool {
        let is_there = |it: &Waiting| it.partition() == partition;
        let sent = self.sent.iter().flat_map(|(sent, _)| sent.publishes());
        sent.chain(&self.returned).any(is_there)
    }

    fn did_not_happen(&mut self, together: Vec<Waiting>) {
        for mut waiting in together {
            if !waiting.may_have_happened {
                waiting.sent = None;
            }
            self.returned.push(waiting);
        }
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

/// Whether an error concerns the server and not what was asked of it.
fn changes_all(text: &[u8]) -> bool {
    tells_not_ready(text) || tells_demoted(text)
}

fn loss(text: &[u8]) -> LinkError {
    match tells_demoted(text) {
        true => LinkError::Replica,
        false => LinkError::NotReady(String::from_utf8_lossy(text).into_owned()),
    }
}

/// What it means that Redis counted so many receivers. A connection that publishes is a subscriber
/// of its channel on this node, so nobody means: Redis has lost this node's subscriptions and the
/// node has not noticed yet. Nobody got it, and its publisher is told. Other callers may well
/// publish to nobody.
fn plain_outcome(reply: &ReplyTo, receivers: &Value) -> PublishOutcome {
    match (reply, receivers) {
        (ReplyTo::Connection(_), Value::Integer(0)) => Err(PublishError::Refused),
        (_, Value::Integer(_)) => Ok(None),
        _ => Err(PublishError::Rejected),
    }
}

/// What a script answers: a position, or nothing in its place for what is not kept.
fn kept_position(answer: &[u8]) -> Result<Option<Position>, LinkError> {
    match answer {
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

#[cfg(test)]
mod tests;
