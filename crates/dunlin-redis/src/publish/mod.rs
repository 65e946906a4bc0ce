//! The publish link: one task that takes publishes from the queue, sends many with one write and
//! hands out the answers. No timer makes the batches: while two are unanswered, publishes gather.
//!
//! What Redis can be asked about, because it is kept or has an idempotency key, is sent again after
//! a loss; the script finds it if it happened. The lost connection is killed first, and the server
//! says so: what the network still holds of it would happen after the repeat. What a server does
//! not do because it has forgotten the scripts is sent again, too: the callers' order may then be
//! broken, but only if another node taught them to it in between.

mod elsewhere;

mod gate;

mod in_flight;

mod probe;

mod restore;

mod sent;

mod tail;

mod writer;

use std::{sync::Arc, time::Duration};

use dunlin_core::{broker::Publish, interest::Interest};
use tokio::time::{Instant, sleep_until, timeout};

pub(crate) use self::probe::Probe;
use self::{
    gate::Gate,
    in_flight::InFlight,
    probe::Verdict,
    restore::Restorer,
    sent::{Own, Sent},
    writer::Writer,
};
use crate::{
    cluster::ELSEWHERE_PAUSE,
    envelope::Format,
    keys::Keys,
    lane::{
        health::PROBE_INTERVAL,
        line::{Line, Next},
    },
    link::{
        connection::{Connection, Ear},
        error::LinkError,
        greeting::{Fenced, fence},
        reach, stopped,
        value::{Frame, Value},
    },
    queue::{Phase, Queue, Waiting},
    subscribe::SubscribeLinks,
};

/// The task's state. [`PublishLink::run`] is the task.
pub(crate) struct PublishLink {
    line: Line,
    queue: Arc<Queue>,
    writer: Writer,
    probe: Probe,
    probe_due: Instant,
    gate: Gate,
    in_flight: InFlight,
    restorer: Restorer,
    /// The publishes of the next batch, empty between batches.
    batch: Vec<Waiting>,
}

impl PublishLink {
    pub(crate) fn new(
        line: Line,
        queue: Arc<Queue>,
        links: Arc<SubscribeLinks>,
        interest: Arc<Interest>,
        keys: Keys,
        format: Format,
        probe: Probe,
    ) -> Self {
        let gate = Gate::new(&line.health, links);
        let in_flight = InFlight::new(Arc::clone(&queue), interest, line.metrics.clone());
        let restorer = Restorer::new(keys.clone(), line.metrics.clone());
        Self {
            line,
            queue,
            writer: Writer::new(keys, format),
            probe,
            probe_due: Instant::now(),
            gate,
            in_flight,
            restorer,
            batch: Vec::new(),
        }
    }

    /// Publishes over one connection after the other until told to stop.
    pub(crate) async fn run(mut self) {
        let mut stop = self.line.stop.clone();
        let queue = Arc::clone(&self.queue);
        let mut connection = tokio::select! {
            () = stopped(&mut stop) => return,
            never = expire(&queue, &mut self.in_flight) => match never {},
            connection = self.line.connect() => connection,
        };
        self.meet(&connection);
        loop {
            let Err(lost) = self.attend(&mut connection).await else { return };
            queue.enter(Phase::Held);
            let (next, fenced) = tokio::select! {
                () = stopped(&mut stop) => return,
                never = expire(&queue, &mut self.in_flight) => match never {},
                next = succeed(&self.line, connection, lost) => next,
            };
            connection = next;
            match fenced {
                None => continue,
                Some(Fenced::Yes) => self.in_flight.put_back_all(),
                Some(Fenced::No) => self.in_flight.give_up_all(),
            }
            self.meet(&connection);
        }
    }

    fn meet(&mut self, connection: &Connection) {
        self.writer.meet(connection.server.reign);
        self.gate.meet();
        self.probe.meet(connection.server.reign);
        self.probe_due = Instant::now();
        self.restorer.meet(connection.server.reign, &self.in_flight.tail, self.probe_due);
    }

    /// Returns when told to stop and done, or with why the connection was lost.
    async fn attend(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        let (server, place) = (connection.server, connection.endpoint.clone());
        let mut stop = self.line.stop.clone();
        let mut ends_at = None;
        loop {
            if self.in_flight.put_back_unknown() {
                self.writer.meet(connection.server.reign);
            }
            self.queue.hand_over(|partition| self.in_flight.has(partition));
            if self.gate.look() | self.in_flight.elsewhere.look() {
                self.queue.release();
            }
            self.send(connection);
            self.queue.enter(if self.is_open() { Phase::Flowing } else { Phase::Held });
            if ends_at.is_some() && self.queue.is_empty() && self.in_flight.is_empty() {
                return Ok(());
            }
            let takes = self.is_open() && self.in_flight.has_room();
            tokio::select! {
                () = stopped(&mut stop), if ends_at.is_none() => {
                    ends_at = Some(Instant::now() + LAST_WAIT);
                }
                () = reach(ends_at) => return Ok(()),
                () = self.gate.changed() => {}
                () = reach(self.in_flight.elsewhere.next()) => {}
                () = self.queue.left() => {}
                () = sleep_until(self.probe_due) => {}
                () = reach(self.restorer.due_at()), if self.gate.is_proved() => {}
                () = self.line.health.listening() => self.probe_due = Instant::now(),
                () = self.queue.filled(), if takes => {}
                never = self.queue.expire(), if !takes => match never {},
                elsewhere = self.line.elsewhere(server, place.as_ref()) => return Err(elsewhere),
                progress = connection.progress(Ear::Open) => {
                    progress?;
                    self.receive(connection)?;
                }
            }
        }
    }

    /// Whether publishes may be sent.
    fn is_open(&self) -> bool {
        self.gate.is_proved() && self.restorer.is_over()
    }

    /// Writes a probe if one is due, and what may be published.
    fn send(&mut self, connection: &mut Connection) {
        let now = Instant::now();
        if now >= self.probe_due {
            self.probe_due = now + PROBE_INTERVAL;
            self.in_flight.expire(now);
            self.queue.refuse_expired();
            if self.is_open() {
                self.in_flight.tail.expire(now);
            }
            self.send_probe(connection);
        }
        if self.gate.is_proved() {
            self.restore(connection, now);
        }
        if self.is_open() && self.in_flight.has_room() {
            let (gate, elsewhere) = (&self.gate, &self.in_flight.elsewhere);
            let admits = |publish: &Publish| {
                gate.admits(publish) && elsewhere.admits(publish.publication.channel())
            };
            self.queue.take(&mut self.batch, BATCH_PUBLISHES, BATCH_BYTES, admits);
            self.send_batch(connection);
        }
    }

    fn send_probe(&mut self, connection: &mut Connection) {
        if self.probe.is_of_use() {
            let number = self.line.health.send_probe();
            self.probe.write(&mut connection.out, number);
            connection.expect(1);
            self.in_flight.push(Sent::Own(Own::Probe(number)));
        }
    }

    /// Writes what this server may lack of what was acknowledged.
    fn restore(&mut self, connection: &mut Connection, now: Instant) {
        let Self { restorer, in_flight, .. } = self;
        while let Some(lot) = restorer.write_next(&mut connection.out, &in_flight.tail, now) {
            connection.expect(1);
            in_flight.push(Sent::Own(Own::Restore(lot)));
        }
    }

    /// Writes a batch.
    fn send_batch(&mut self, connection: &mut Connection) {
        let Self { batch, writer, in_flight, .. } = self;
        writer.arrange(batch);
        let mut rest = batch.drain(..);
        while let Some(first) = rest.as_slice().first() {
            // One that was sent before goes alone, not even together with itself.
            let most = rest.as_slice().iter().take(TOGETHER);
            let count = most.take_while(|next| writer.go_together(first, next)).count();
            let together: Vec<_> = rest.by_ref().take(count.max(1)).collect();
            let repeated = together.iter().filter(|waiting| waiting.sent.is_some()).count();
            self.line.metrics.publishes_repeated.inc_by(repeated as u64);
            let (sent, commands) = writer.write(&mut connection.out, together);
            connection.expect(commands);
            in_flight.push(sent);
        }
        drop(rest);
        self.in_flight.end_batch();
    }

    fn receive(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        while let Some(frame) = connection.next_frame()? {
            let Frame::Reply(answer) = frame else { continue };
            let Some(answered) = self.in_flight.receive(answer)? else { continue };
            match answered.own {
                Own::Probe(number) => self.receive_probe(number, &answered.answer)?,
                Own::Restore(lot) => self.restorer.receive(lot, &answered.answer),
            }
        }
        if self.in_flight.take_elsewhere() {
            self.line.doubt();
        }
        self.in_flight.leave()?;
        self.line.note_round_trip(connection);
        Ok(())
    }

    fn receive_probe(&mut self, number: u64, answer: &Value) -> Result<(), LinkError> {
        let refusal = match self.probe.judge(answer)? {
            Verdict::Elsewhere => {
                self.line.doubt();
                self.probe_due = Instant::now() + ELSEWHERE_PAUSE;
                self.gate.links().follow_probe();
                return Ok(());
            }
            Verdict::Refused(why) => Some(why),
            Verdict::Passed => None,
        };
        self.gate.prove();
        self.line.health.note_answered(number, refusal.as_deref());
        Ok(())
    }
}

/// However the task ends, nobody waits for an answer that never comes.
impl Drop for PublishLink {
    fn drop(&mut self) {
        self.in_flight.put_back_all();
        self.queue.enter(Phase::Closed);
        self.line.health.close();
    }
}

/// The connection to go on with after `old` failed as `lost` tells, and whether what `old` carried
/// is fenced; none where it is `old` that goes on. Cancel-safe, but for `old`.
async fn succeed(
    line: &Line,
    old: Connection,
    mut lost: LinkError,
) -> (Connection, Option<Fenced>) {
    let server = old.server;
    let mut connection = old;
    loop {
        match line.next(connection, &lost).await {
            Next::Same(old) => return (old, None),
            Next::New(mut new) => match fence(&mut new, server).await {
                Ok(fenced) => return (new, Some(fenced)),
                Err(error) => (connection, lost) = (new, error),
            },
        }
    }
}

/// Answers whatever has waited too long, sent or not, and hands over what leaves. Cancel-safe.
async fn expire(queue: &Queue, in_flight: &mut InFlight) -> std::convert::Infallible {
    tokio::select! {
        never = queue.expire() => never,
        never = async {
            loop {
                queue.hand_over(|partition| in_flight.has(partition));
                if timeout(PROBE_INTERVAL, queue.left()).await.is_err() {
                    in_flight.expire(Instant::now());
                }
            }
        } => never,
    }
}

/// The bounds of one write.
const BATCH_PUBLISHES: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;
/// Most publishes of one call: others wait for the server as long as a call takes.
const TOGETHER: usize = 32;
/// How long a stop waits for what is under way.
const LAST_WAIT: Duration = Duration::from_secs(1);
