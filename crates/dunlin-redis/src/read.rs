//! The read link: one task that puts questions to Redis whose askers wait for the answer: what is
//! kept of a channel, who is present. It is a connection of its own, so that a long answer delays
//! no publish. Questions may be put twice, so a lost connection costs time only.

use std::{collections::VecDeque, convert::Infallible, mem, time::Duration};

use bytes::{Bytes, BytesMut};
use dunlin_core::error::BrokerLost;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{
    lane::line::{Line, Next},
    link::{
        command,
        connection::{Connection, Ear, Progress},
        error::{LinkError, tells_elsewhere},
        stopped,
        value::{Frame, Value},
    },
    metrics::LinkMetrics,
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
    pub(crate) fn script(script: &'static Script, keys: impl IntoIterator<Item = Bytes>) -> Self {
        let arguments: Vec<_> = keys.into_iter().map(Argument::Bytes).collect();
        Self { script: Some((script, arguments.len())), arguments }
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

    fn write(&self, out: &mut BytesMut, call: Call, reign: u32) {
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
                Argument::Server => command::write_number(out, u64::from(reign)),
            }
        }
    }
}

/// Puts questions to the read link. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader {
    questions: mpsc::Sender<Asked>,
    /// When the link last heard the server.
    heard: watch::Receiver<Instant>,
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
    /// When Redis is away for too long, or answers with more than can be taken, or with an error
    /// other than that what is asked about is elsewhere.
    pub(crate) async fn ask(&self, question: Question) -> Result<Value, BrokerLost> {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            let (call, since) = (Call::ByHash, Instant::now());
            let asked = Asked { question, answer, call, since, was_lost: false };
            self.questions.send(asked).await.ok()?;
            answered.await.ok()
        };
        let answer = tokio::select! {
            answer = asked => answer,
            () = self.silence() => None,
        };
        if answer.is_none() {
            self.metrics.reads_lost.inc();
        }
        match answer {
            Some(Value::Error(text)) if tells_elsewhere(&text) => Ok(Value::Error(text)),
            Some(Value::Error(_) | Value::Skipped { .. }) | None => Err(BrokerLost),
            Some(answer) => Ok(answer),
        }
    }

    /// Waits until the server was silent for [`SILENCE_WAIT`]. An answer may take its time, and
    /// those before it theirs, as long as something comes.
    async fn silence(&self) {
        let mut since = Instant::now();
        loop {
            sleep_until(since + SILENCE_WAIT).await;
            let heard = *self.heard.borrow();
            if heard <= since {
                return;
            }
            since = heard;
        }
    }
}

/// The task's state. [`ReadLink::run`] is the task.
pub(crate) struct ReadLink {
    line: Line,
    questions: mpsc::Receiver<Asked>,
    /// To be put next.
    waiting: VecDeque<Asked>,
    /// Put and not answered, in order.
    in_flight: VecDeque<Asked>,
    returns: watch::Sender<()>,
    heard: watch::Sender<Instant>,
    /// Whether this connection's first refused question was logged.
    has_warned: bool,
}

impl ReadLink {
    pub(crate) fn new(line: Line, returns: watch::Sender<()>) -> (Self, Reader) {
        let (sender, questions) = mpsc::channel(QUESTIONS_WAITING);
        let heard = watch::Sender::new(Instant::now());
        let reader =
            Reader { questions: sender, heard: heard.subscribe(), metrics: line.metrics.clone() };
        let (waiting, in_flight) = (VecDeque::new(), VecDeque::new());
        let link = Self { line, questions, waiting, in_flight, returns, heard, has_warned: false };
        (link, reader)
    }

    /// Asks over one connection after the other until told to stop.
    pub(crate) async fn run(mut self) {
        let mut stop = self.line.stop.clone();
        tokio::select! {
            () = stopped(&mut stop) => {}
            never = self.ask() => match never {},
        }
    }

    async fn ask(&mut self) -> Infallible {
        let Self { line, questions, waiting, .. } = self;
        let mut connection = tokio::select! {
            never = gather(questions, waiting) => match never {},
            connection = line.connect() => connection,
        };
        loop {
            let lost = self.attend(&mut connection).await;
            if !matches!(lost, LinkError::Silent(_)) {
                self.take_back();
            }
            let Self { line, questions, waiting, .. } = self;
            let next = tokio::select! {
                never = gather(questions, waiting) => match never {},
                next = line.next(connection, &lost) => next,
            };
            connection = match next {
                Next::Same(connection) => connection,
                Next::New(connection) => {
                    self.take_back();
                    self.has_warned = false;
                    self.returns.send_replace(());
                    connection
                }
            };
        }
    }

    /// Returns why the connection was lost.
    async fn attend(&mut self, connection: &mut Connection) -> LinkError {
        let (server, place) = (connection.server, connection.endpoint.clone());
        loop {
            self.put(connection);
            let has_room = self.in_flight.len() < QUESTIONS_IN_FLIGHT;
            let progress = tokio::select! {
                Some(asked) = self.questions.recv(), if has_room => {
                    self.waiting.push_back(asked);
                    continue;
                }
                elsewhere = self.line.elsewhere(server, place.as_ref()) => return elsewhere,
                progress = connection.progress(Ear::Open) => progress,
            };
            if let Ok(Progress::Received) = progress {
                self.heard.send_replace(Instant::now());
            }
            if let Err(lost) = progress.and_then(|_| self.receive(connection)) {
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
            asked.question.write(&mut connection.out, asked.call, connection.server.reign);
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
        self.line.note_round_trip(connection);
        Ok(())
    }

    fn answer(&mut self, asked: Asked, answer: Value) {
        if let Value::Error(text) = &answer {
            // Only whole calls of scripts can be unknown, and none minds its place among others.
            if script::tells_unknown(text) && asked.call == Call::ByHash {
                self.waiting.push_back(Asked { call: Call::ByText, ..asked });
                return;
            }
            if !tells_elsewhere(text) {
                self.note_refusal(text);
            }
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
}

/// Takes questions while there is no connection, and gives up those that wait too long.
async fn gather(
    questions: &mut mpsc::Receiver<Asked>,
    waiting: &mut VecDeque<Asked>,
) -> Infallible {
    loop {
        let now = Instant::now();
        while waiting.front().is_some_and(|oldest| oldest.since + AWAY_WAIT <= now) {
            // Its asker is told by that.
            waiting.pop_front();
        }
        let gives_up_at = waiting.front().map_or(now, |oldest| oldest.since) + AWAY_WAIT;
        let has_room = waiting.len() < QUESTIONS_WAITING;
        tokio::select! {
            Some(asked) = questions.recv(), if has_room => waiting.push_back(asked),
            () = sleep_until(gives_up_at) => {}
        }
    }
}

/// How many questions may wait before those who ask more are made to wait themselves.
const QUESTIONS_WAITING: usize = 1024;
/// Redis works on one after the other; more on their way would gain nothing.
const QUESTIONS_IN_FLIGHT: usize = 256;
/// How long the server may be silent to those who wait for an answer.
const SILENCE_WAIT: Duration = Duration::from_secs(5);
/// How long a question waits for a server that is away: as long as a blip lasts. Those who join
/// meanwhile are better off when they are told soon.
const AWAY_WAIT: Duration = Duration::from_secs(1);
