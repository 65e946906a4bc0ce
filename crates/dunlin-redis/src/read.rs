//! The read link: one task that puts questions to Redis whose askers wait for the answer: what is
//! kept of a channel, who is present. It is a connection of its own, so that a long answer delays
//! no publish. Questions may be put twice, so a lost connection costs time only.

use std::{
    collections::VecDeque, convert::Infallible, future::pending, mem, sync::Arc, time::Duration,
};

use bytes::{Bytes, BytesMut};
use dunlin_core::error::BrokerLost;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    link::{
        command,
        connection::{Connection, Ear},
        dial::Dialer,
        error::LinkError,
        stopped,
        value::{Frame, Value},
    },
    metrics::{LinkLabel, LinkMetrics, RoundTripSeconds},
    script::{self, Call, Script},
};

/// What to ask: a command, or a call of a script.
#[derive(Clone)]
pub(crate) struct Question {
    script: Option<(&'static Script, usize)>,
    arguments: Vec<Argument>,
}

/// A part of a question.
#[derive(Clone)]
pub(crate) enum Argument {
    Bytes(Bytes),
    Number(u64),
    /// The name of the server that is asked.
    Server,
}

impl Question {
    /// A command of these words.
    pub(crate) fn command<const N: usize>(words: [Bytes; N]) -> Self {
        Self { script: None, arguments: words.map(Argument::Bytes).into() }
    }

    /// A call of `script` with these keys.
    pub(crate) fn script<const N: usize>(script: &'static Script, keys: [Bytes; N]) -> Self {
        Self { script: Some((script, N)), arguments: keys.map(Argument::Bytes).into() }
    }

    pub(crate) fn push(&mut self, argument: Argument) {
        self.arguments.push(argument);
    }

    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.push(Argument::Bytes(Bytes::copy_from_slice(bytes)));
    }

    pub(crate) fn push_number(&mut self, number: u64) {
        self.push(Argument::Number(number));
    }

    fn write(&self, out: &mut BytesMut, call: Call, server: u32) {
        match self.script {
            None => command::begin(out, self.arguments.len()),
            Some((script, keys)) => {
                script.write_call(out, call, keys, self.arguments.len() - keys);
            }
        }
        for argument in &self.arguments {
            match argument {
                Argument::Bytes(bytes) => command::write_argument(out, &[bytes]),
                Argument::Number(number) => command::write_number(out, *number),
                Argument::Server => command::write_number(out, u64::from(server)),
            }
        }
    }
}

/// Puts questions to the read link. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader {
    questions: mpsc::Sender<Asked>,
    returns: watch::Receiver<()>,
    metrics: LinkMetrics,
}

struct Asked {
    question: Question,
    answer: oneshot::Sender<Value>,
    call: Call,
    since: Instant,
    /// Whether a connection was lost with it before.
    was_lost: bool,
}

impl Reader {
    /// Asks and waits for the answer. Questions of one caller are put in the order in which these
    /// futures were first polled; one that was polled is put, whether or not anyone waits for it,
    /// unless too many wait already.
    ///
    /// # Errors
    /// When Redis is away for too long, or answers with an error.
    pub(crate) async fn ask(&self, question: Question) -> Result<Value, BrokerLost> {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            let (call, since) = (Call::ByHash, Instant::now());
            let asked = Asked { question, answer, call, since, was_lost: false };
            self.questions.send(asked).await.ok()?;
            answered.await.ok()
        };
        let answer = timeout(ANSWER_WAIT, asked).await.ok().flatten();
        if answer.is_none() {
            self.metrics.reads_lost.inc();
        }
        match answer {
            Some(Value::Error(_)) | None => Err(BrokerLost),
            Some(answer) => Ok(answer),
        }
    }
}

impl Reader {
    /// Waits until the link is made again after a loss; one that nobody waited for counts.
    /// Cancel-safe.
    pub(crate) async fn returned(&mut self) {
        if self.returns.changed().await.is_err() {
            // The link has ended for good.
            pending().await
        }
    }
}

/// The task's state. [`ReadLink::run`] is the task.
pub(crate) struct ReadLink {
    dialer: Arc<Dialer>,
    questions: mpsc::Receiver<Asked>,
    /// To be put next.
    waiting: VecDeque<Asked>,
    /// Put and not answered, in order.
    in_flight: VecDeque<Asked>,
    returns: watch::Sender<()>,
    metrics: LinkMetrics,
    round_trip_seconds: RoundTripSeconds,
    stop: watch::Receiver<bool>,
    /// Whether this connection's first refused question was logged.
    has_warned: bool,
}

impl ReadLink {
    pub(crate) fn new(
        dialer: Arc<Dialer>,
        metrics: LinkMetrics,
        stop: watch::Receiver<bool>,
    ) -> (Self, Reader) {
        let round_trip_seconds = metrics.round_trip_seconds.get_or_create_owned(&LinkLabel::READ);
        let (sender, questions) = mpsc::channel(QUESTIONS_WAITING);
        let returns = watch::Sender::new(());
        let reader =
            Reader { questions: sender, returns: returns.subscribe(), metrics: metrics.clone() };
        let (waiting, in_flight) = (VecDeque::new(), VecDeque::new());
        let link = Self {
            dialer,
            questions,
            waiting,
            in_flight,
            returns,
            metrics,
            round_trip_seconds,
            stop,
            has_warned: false,
        };
        (link, reader)
    }

    /// Asks over `connection` and its successors until told to stop.
    pub(crate) async fn run(mut self, mut connection: Connection) {
        let mut stop = self.stop.clone();
        loop {
            self.metrics.health.set_reading(true);
            let lost = tokio::select! {
                () = stopped(&mut stop) => return,
                lost = self.attend(connection) => lost,
            };
            self.metrics.health.set_reading(false);
            let address = self.dialer.to_string();
            tracing::warn!(address, link = "read", "redis {lost}");
            let dialer = Arc::clone(&self.dialer);
            connection = tokio::select! {
                () = stopped(&mut stop) => return,
                never = self.gather() => match never {},
                connection = dialer.redial(&lost) => connection,
            };
            self.metrics.reconnects.get_or_create(&LinkLabel::READ).inc();
            tracing::info!(address, link = "read", "redis is back");
            self.returns.send_replace(());
        }
    }

    /// Returns why the connection was lost; what it did not answer waits then.
    async fn attend(&mut self, mut connection: Connection) -> LinkError {
        self.has_warned = false;
        loop {
            self.put(&mut connection);
            let has_room = self.in_flight.len() < QUESTIONS_IN_FLIGHT;
            let progress = tokio::select! {
                Some(asked) = self.questions.recv(), if has_room => {
                    self.waiting.push_back(asked);
                    continue;
                }
                progress = connection.progress(Ear::Open) => progress,
            };
            if let Err(lost) = progress.and_then(|_| self.receive(&mut connection)) {
                self.take_back();
                return lost;
            }
        }
    }

    /// Writes what waits.
    fn put(&mut self, connection: &mut Connection) {
        while self.in_flight.len() < QUESTIONS_IN_FLIGHT {
            let Some(asked) = self.waiting.pop_front().or_else(|| self.questions.try_recv().ok())
            else {
                return;
            };
            asked.question.write(&mut connection.out, asked.call, connection.server);
            connection.expect(1);
            self.in_flight.push_back(asked);
        }
    }

    /// What is unanswered is put again, but once only: it may be why the connection was lost.
    fn take_back(&mut self) {
        for asked in mem::take(&mut self.in_flight).into_iter().rev() {
            if !asked.was_lost {
                self.waiting.push_front(Asked { was_lost: true, ..asked });
            }
        }
    }

    fn receive(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        while let Some(frame) = connection.next_frame()? {
            let Frame::Reply(answer) = frame else { continue };
            let Some(asked) = self.in_flight.pop_front() else {
                return Err(LinkError::Protocol("a reply to no question".to_owned()));
            };
            self.answer(asked, answer);
        }
        self.round_trip_seconds.set(connection.round_trip().as_secs_f64());
        Ok(())
    }

    fn answer(&mut self, asked: Asked, answer: Value) {
        if let Value::Error(text) = &answer {
            // Only whole calls of scripts can be unknown, and none minds its place among others.
            if script::tells_unknown(text) && asked.call == Call::ByHash {
                self.waiting.push_back(Asked { call: Call::ByText, ..asked });
                return;
            }
            self.note_refusal(text);
        }
        // An asker that went away no longer wants to know.
        let _ = asked.answer.send(answer);
    }

    /// Tells the operator once: what is asked is up to clients, and so are more lines.
    fn note_refusal(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        if mem::replace(&mut self.has_warned, true) {
            tracing::debug!("redis refused a question: {text}");
        } else {
            tracing::warn!("redis refused a question: {text}");
        }
    }

    /// Takes questions while there is no connection, and gives up those that wait too long.
    async fn gather(&mut self) -> Infallible {
        loop {
            let now = Instant::now();
            while self.waiting.front().is_some_and(|oldest| oldest.since + AWAY_WAIT <= now) {
                // Its asker is told by that.
                self.waiting.pop_front();
            }
            let gives_up_at = self.waiting.front().map_or(now, |oldest| oldest.since) + AWAY_WAIT;
            let has_room = self.waiting.len() < QUESTIONS_WAITING;
            tokio::select! {
                Some(asked) = self.questions.recv(), if has_room => self.waiting.push_back(asked),
                () = sleep_until(gives_up_at) => {}
            }
        }
    }
}

/// A link that ended answers nobody.
impl Drop for ReadLink {
    fn drop(&mut self) {
        self.metrics.health.set_reading(false);
    }
}

/// How many questions may wait before those who ask more are made to wait themselves.
const QUESTIONS_WAITING: usize = 1024;
/// Redis works on one after the other; more on their way would gain nothing.
const QUESTIONS_IN_FLIGHT: usize = 256;
/// The longest wait for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long a question waits for a server that is away: as long as a blip lasts. Those who join
/// meanwhile are better off when they are told soon.
const AWAY_WAIT: Duration = Duration::from_secs(1);
