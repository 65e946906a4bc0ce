//! The publish link: one task that takes publishes from the queue, sends many with one write and
//! hands out the answers. No timer makes the batches: while two are unanswered, publishes gather.
//!
//! What Redis can be asked about, because it is kept or has an idempotency key, is sent again after
//! a loss; the script finds it if it happened. So it is when a server has forgotten the scripts:
//! the callers' order may then be broken, but only if another node taught them to it in between.

mod in_flight;

mod writer;

use std::{future::pending, mem, sync::Arc, time::Duration};

use dunlin_core::interest::Interest;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use self::{
    in_flight::{InFlight, Sent},
    writer::{Writer, go_together},
};
use crate::{
    keys::Keys,
    link::{
        connection::{Connection, Ear},
        dial::Dialer,
        error::LinkError,
        stopped,
        value::Frame,
    },
    metrics::{LinkLabel, LinkMetrics, RoundTripSeconds},
    queue::{Phase, Queue, Waiting},
};

/// The task's state. [`PublishLink::run`] is the task.
pub(crate) struct PublishLink {
    dialer: Arc<Dialer>,
    queue: Arc<Queue>,
    interest: Arc<Interest>,
    writer: Writer,
    metrics: LinkMetrics,
    round_trip_seconds: RoundTripSeconds,
    stop: watch::Receiver<bool>,
    /// The publishes of the next batch, empty between batches.
    batch: Vec<Waiting>,
    /// The publishes of the next command, empty between commands.
    together: Vec<Waiting>,
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
        Self {
            dialer,
            queue,
            interest,
            writer: Writer::new(keys),
            metrics,
            round_trip_seconds,
            stop,
            batch: Vec::new(),
            together: Vec::new(),
            gate: Gate::Shut,
        }
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
        self.writer.meet(connection.server);
        let (queue, interest) = (Arc::clone(&self.queue), Arc::clone(&self.interest));
        let mut in_flight = InFlight::new(queue, interest, self.metrics.clone());
        let mut subscribed = self.metrics.health.watch_subscribed();
        let mut stop = self.stop.clone();
        let mut ends_at = None;
        // Read on a line of its own: what follows must not happen under the lock of the watch.
        let is_subscribed = *subscribed.borrow_and_update();
        self.note_subscribed(is_subscribed, settle);
        loop {
            if in_flight.put_back() {
                self.writer.meet(connection.server);
            }
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
        let mut batch = self.batch.drain(..).peekable();
        while let Some(waiting) = batch.next() {
            if waiting.sent.is_some() {
                self.metrics.publishes_repeated.inc();
            }
            let together = &mut self.together;
            together.push(waiting);
            while together.len() < TOGETHER
                && let Some(next) = batch.next_if(|next| go_together(&together[0], next))
            {
                together.push(next);
            }
            connection.expect(1);
            if self.writer.write(&mut connection.out, together) {
                in_flight.push(Sent::Repeatable(mem::take(together)));
            } else {
                together.drain(..).for_each(|it| in_flight.push(Sent::Once(it.reply)));
            }
        }
        in_flight.end_batch();
    }

    fn receive(
        &self,
        connection: &mut Connection,
        in_flight: &mut InFlight,
    ) -> Result<(), LinkError> {
        while let Some(frame) = connection.next_frame()? {
            match frame {
                Frame::Reply(answer) => in_flight.receive(answer)?,
                Frame::Push(_) | Frame::Message { .. } => {}
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

/// The bounds of one write.
const BATCH_PUBLISHES: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;
/// Most publishes of one call: others wait for the server as long as a call takes.
const TOGETHER: usize = 32;
/// How long a link that was lost holds publishes back after its return. Others lost Redis too and
/// dial at most every quarter of a second; what they are not subscribed to in time they never get.
const SETTLE: Duration = Duration::from_millis(300);
/// How long a stop waits for what is under way.
const LAST_WAIT: Duration = Duration::from_secs(1);
