//! The publish link: one task that takes publishes from the queue, sends many with one write and
//! hands out the answers. No timer makes the batches: while two are unanswered, publishes gather.

use std::{collections::VecDeque, future::pending, mem, sync::Arc, time::Duration};

use dunlin_core::{
    broker::ReplyTo,
    error::{PublishError, PublishOutcome},
    interest::Interest,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    envelope,
    keys::Keys,
    link::{
        command,
        connection::{Connection, Ear},
        dial::Dialer,
        error::LinkError,
        stopped,
        value::{Frame, Value},
    },
    metrics::{LinkLabel, LinkMetrics, RoundTripSeconds},
    queue::{Phase, Queue, Waiting},
};

/// The task's state. [`PublishLink::run`] is the task.
pub(crate) struct PublishLink {
    dialer: Arc<Dialer>,
    queue: Arc<Queue>,
    interest: Arc<Interest>,
    keys: Keys,
    metrics: LinkMetrics,
    round_trip_seconds: RoundTripSeconds,
    stop: watch::Receiver<bool>,
    /// The publishes of the next batch, empty between batches.
    batch: Vec<Waiting>,
    gate: Gate,
}

/// Whether publishes flow. They do not while this node could not hear them itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Shut,
    /// Open from then on: the other nodes that lost Redis need a moment more to be back.
    Opens(Instant),
    Open,
}

impl Gate {
    fn opens_at(self) -> Option<Instant> {
        match self {
            Self::Opens(at) => Some(at),
            Self::Shut | Self::Open => None,
        }
    }
}

impl PublishLink {
    pub(crate) fn new(
        dialer: Arc<Dialer>,
        queue: Arc<Queue>,
        interest: Arc<Interest>,
        keys: Keys,
        metrics: LinkMetrics,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let round_trip_seconds =
            metrics.round_trip_seconds.get_or_create_owned(&LinkLabel::PUBLISH);
        let (batch, gate) = (Vec::new(), Gate::Shut);
        Self { dialer, queue, interest, keys, metrics, round_trip_seconds, stop, batch, gate }
    }

    /// Publishes over `connection` and its successors until told to stop.
    pub(crate) async fn run(mut self, mut connection: Connection) {
        let mut settle = Duration::ZERO;
        loop {
            let attended = self.attend(connection, settle).await;
            self.set_gate(Gate::Shut);
            let Err(lost) = attended else { return };
            let address = self.dialer.to_string();
            tracing::warn!(address, link = "publish", "redis {lost}");
            connection = tokio::select! {
                () = stopped(&mut self.stop) => return,
                never = self.queue.expire() => match never {},
                connection = self.dialer.redial(&lost) => connection,
            };
            self.metrics.reconnects.get_or_create(&LinkLabel::PUBLISH).inc();
            tracing::info!(address, link = "publish", "redis is back");
            settle = SETTLE;
        }
    }

    /// Returns when told to stop and done, or with why the connection was lost.
    async fn attend(
        &mut self,
        mut connection: Connection,
        settle: Duration,
    ) -> Result<(), LinkError> {
        let mut in_flight = InFlight::new(Arc::clone(&self.interest), self.metrics.clone());
        let mut subscribed = self.metrics.health.watch_subscribed();
        let mut stop = self.stop.clone();
        let mut ends_at = None;
        // Read on a line of its own: what follows must not happen under the lock of the watch.
        let is_subscribed = *subscribed.borrow_and_update();
        self.note_subscribed(is_subscribed, settle);
        loop {
            let takes = self.gate == Gate::Open && in_flight.has_room();
            if takes {
                self.send_batch(&mut connection, &mut in_flight);
            }
            if ends_at.is_some() && self.queue.is_empty() && in_flight.is_empty() {
                return Ok(());
            }
            let takes = self.gate == Gate::Open && in_flight.has_room();
            tokio::select! {
                () = stopped(&mut stop), if ends_at.is_none() => {
                    ends_at = Some(Instant::now() + LAST_WAIT);
                }
                () = reach(ends_at) => return Ok(()),
                _ = subscribed.changed() => {
                    let is_subscribed = *subscribed.borrow_and_update();
                    self.note_subscribed(is_subscribed, SETTLE);
                }
                () = reach(self.gate.opens_at()) => self.set_gate(Gate::Open),
                () = self.queue.filled(), if takes => {}
                never = self.queue.expire(), if !takes => match never {},
                progress = connection.progress(Ear::Open) => {
                    progress?;
                    self.receive(&mut connection, &mut in_flight)?;
                }
            }
        }
    }

    fn note_subscribed(&mut self, is_subscribed: bool, settle: Duration) {
        self.set_gate(match is_subscribed {
            false => Gate::Shut,
            true if settle.is_zero() => Gate::Open,
            true => Gate::Opens(Instant::now() + settle),
        });
    }

    fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
        let is_open = gate == Gate::Open;
        self.queue.enter(if is_open { Phase::Flowing } else { Phase::Held });
        self.metrics.health.set_publishing(is_open);
    }

    /// Takes what waits and writes it as one batch.
    fn send_batch(&mut self, connection: &mut Connection, in_flight: &mut InFlight) {
        self.queue.take(&mut self.batch, BATCH_PUBLISHES, BATCH_BYTES);
        connection.expect(self.batch.len());
        let out = &mut connection.out;
        for Waiting { publish, reply, .. } in self.batch.drain(..) {
            let publication = publish.publication;
            out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n");
            command::write_argument(out, &self.keys.channel_parts(publication.channel()));
            let prelude = envelope::prelude(publication.kind());
            command::write_argument(out, &[prelude, publication.data()]);
            in_flight.push(reply);
        }
        in_flight.end_batch();
    }

    fn receive(
        &self,
        connection: &mut Connection,
        in_flight: &mut InFlight,
    ) -> Result<(), LinkError> {
        while let Some(frame) = connection.next_frame()? {
            let outcome = match frame {
                Frame::Reply(Value::Integer(receivers)) => in_flight.outcome(receivers),
                Frame::Reply(Value::Error(text)) => {
                    in_flight.note_rejection(&text);
                    Err(PublishError::Rejected)
                }
                Frame::Reply(_) => return Err(unexpected("a reply that no publish has")),
                Frame::Push(_) | Frame::Message { .. } => continue,
            };
            if !in_flight.answer(outcome) {
                return Err(unexpected("a reply to no publish"));
            }
        }
        self.round_trip_seconds.set(connection.round_trip().as_secs_f64());
        Ok(())
    }
}

/// However the task ends, nobody waits for an answer that never comes.
impl Drop for PublishLink {
    fn drop(&mut self) {
        self.metrics.health.set_publishing(false);
        self.queue.enter(Phase::Closed);
    }
}

/// Waits for a moment; for ever if there is none.
async fn reach(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

fn unexpected(what: &str) -> LinkError {
    LinkError::Protocol(what.to_owned())
}

/// Publishes that were written and not answered, in order. Whatever is left when the connection
/// goes is unknown: it happened or not, and must not be repeated.
struct InFlight {
    replies: VecDeque<(ReplyTo, u64)>,
    batch: u64,
    interest: Arc<Interest>,
    metrics: LinkMetrics,
    /// Whether this connection's first rejected publish was logged.
    has_warned: bool,
}

impl InFlight {
    fn new(interest: Arc<Interest>, metrics: LinkMetrics) -> Self {
        Self { replies: VecDeque::new(), batch: 0, interest, metrics, has_warned: false }
    }

    fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    fn has_room(&self) -> bool {
        self.replies.front().is_none_or(|(_, oldest)| self.batch - oldest < BATCHES_IN_FLIGHT)
    }

    fn push(&mut self, reply: ReplyTo) {
        self.replies.push_back((reply, self.batch));
    }

    /// What is pushed from now on is another batch, if this one is not empty.
    fn end_batch(&mut self) {
        if self.replies.back().is_some_and(|(_, newest)| *newest == self.batch) {
            self.batch += 1;
        }
    }

    /// What it means for the oldest that Redis counted so many receivers. A connection that
    /// publishes is a subscriber of its channel on this node, so nobody means: Redis has lost this
    /// node's subscriptions and the node has not noticed yet. Nobody got it, and its publisher is
    /// told. Other callers may well publish to nobody.
    fn outcome(&self, receivers: i64) -> PublishOutcome {
        match self.replies.front() {
            Some((ReplyTo::Connection(_), _)) if receivers == 0 => Err(PublishError::Refused),
            _ => Ok(None),
        }
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

    /// Answers the oldest; false when there is none.
    fn answer(&mut self, outcome: PublishOutcome) -> bool {
        let Some((reply, _)) = self.replies.pop_front() else { return false };
        match outcome {
            Ok(_) => self.metrics.publishes_accepted.inc(),
            Err(PublishError::Unknown) => self.metrics.publishes_unknown.inc(),
            Err(PublishError::Refused) => self.metrics.publishes_refused.inc(),
            Err(PublishError::Rejected) => self.metrics.publishes_rejected.inc(),
        };
        reply.answer(&self.interest, outcome);
        true
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        while self.answer(Err(PublishError::Unknown)) {}
    }
}

/// The bounds of one write.
const BATCH_PUBLISHES: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;
/// One that Redis works on and one on its way.
const BATCHES_IN_FLIGHT: u64 = 2;
/// How long a link that was lost holds publishes back after its return. Others lost Redis too and
/// dial at most every quarter of a second; what they are not subscribed to in time they never get.
const SETTLE: Duration = Duration::from_millis(300);
/// How long a stop waits for what is under way.
const LAST_WAIT: Duration = Duration::from_secs(1);
