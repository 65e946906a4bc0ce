//! One connection to a server: bytes both ways, pings, and the proof that the server is alive.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use dunlin_core::publication::SHARED_BUFFER_BYTES;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

use super::{command, error::LinkError, greeting::Server, resp::Decoder, value::Frame};
use crate::url::Endpoint;

/// Anything that carries bytes both ways: TCP, TLS over it, a Unix socket.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a server. Commands go into [`Connection::out`]; [`Connection::progress`] sends
/// them and brings bytes in; [`Connection::next_frame`] takes frames out of those.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    buffer: BytesMut,
    /// Commands to send. Say with [`Connection::expect`] how many were added.
    pub(crate) out: BytesMut,
    turns: Turns,
    must_flush: bool,
    pulse: Pulse,
    /// Where it leads.
    pub(crate) endpoint: Option<Endpoint>,
    /// Who is at the other end, once it is greeted.
    pub(crate) server: Server,
}

/// What [`Connection::progress`] achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Bytes came in: take the frames.
    Received,
    /// Everything in `out` was sent.
    Sent,
}

/// Whether a link wants to hear the server now. One that does not must not take its silence for
/// death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ear {
    Open,
    Closed,
}

impl Connection {
    /// A connection over `stream` whose frames keep at most `frame_bytes_max` bytes.
    pub(crate) fn new(stream: Box<dyn Stream>, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            decoder: Decoder::new(frame_bytes_max),
            buffer: BytesMut::new(),
            out: BytesMut::new(),
            turns: Turns::default(),
            must_flush: false,
            pulse: Pulse::new(),
            endpoint: None,
            server: Server::default(),
        }
    }

    /// Sends and, with an open ear, receives until something is achieved. Pings when it is time.
    /// Cancel-safe.
    ///
    /// # Errors
    /// When the connection is broken, closed, or silent for [`SILENCE_MAX`].
    pub(crate) async fn progress(&mut self, ear: Ear) -> Result<Progress, LinkError> {
        poll_fn(|cx| self.poll_progress(cx, ear)).await
    }

    /// Notes that so many commands went into `out`, each to be answered by one reply.
    pub(crate) fn expect(&mut self, commands: usize) {
        self.turns.asked += commands as u64;
    }

    /// Notes that the oldest unanswered command was answered by pushes instead of a reply.
    pub(crate) fn note_answered(&mut self) {
        self.turns.note_answered();
    }

    /// The next frame of what was received. Answers to pings are kept back; one that is an error
    /// proves as well that the server is alive.
    ///
    /// # Errors
    /// When the server does not keep to the protocol.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, LinkError> {
        loop {
            match self.decoder.decode(&mut self.buffer)? {
                Some(Frame::Reply(_)) if self.turns.take_ping() => {
                    self.pulse.answered(Instant::now());
                }
                Some(Frame::Reply(value)) => {
                    self.turns.note_answered();
                    return Ok(Some(Frame::Reply(value)));
                }
                frame => return Ok(frame),
            }
        }
    }

    /// Waits for any sign of life of a server that has been silent. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is broken or closed.
    pub(crate) async fn heard(&mut self) -> Result<(), LinkError> {
        loop {
            match self.progress(Ear::Open).await {
                Ok(Progress::Received) => return Ok(()),
                Ok(Progress::Sent) => {}
                Err(LinkError::Silent(_)) => self.pulse.heard = Instant::now(),
                Err(error) => return Err(error),
            }
        }
    }

    /// How long the last answered ping took.
    pub(crate) fn round_trip(&self) -> Duration {
        self.pulse.round_trip
    }

    fn poll_progress(
        &mut self,
        cx: &mut Context<'_>,
        ear: Ear,
    ) -> Poll<Result<Progress, LinkError>> {
        self.poll_pulse(cx, ear)?;
        match self.poll_send(cx) {
            Poll::Ready(Ok(true)) => return Poll::Ready(Ok(Progress::Sent)),
            Poll::Ready(Err(error)) if ear == Ear::Closed => {
                return Poll::Ready(Err(LinkError::Broken(error)));
            }
            // What a server says before it closes, such as why, is heard first; and then the end.
            _ => {}
        }
        match ear {
            Ear::Open => self.poll_receive(cx).map_ok(|()| Progress::Received),
            Ear::Closed => Poll::Pending,
        }
    }

    fn poll_pulse(&mut self, cx: &mut Context<'_>, ear: Ear) -> Result<(), LinkError> {
        while self.pulse.next.as_mut().poll(cx).is_ready() {
            match self.pulse.beat(Instant::now(), ear) {
                Beat::Nothing => {}
                Beat::Ping => {
                    command::write(&mut self.out, &[b"PING"]);
                    self.turns.ping = Some(self.turns.asked);
                }
                Beat::Dead => return Err(LinkError::Silent(SILENCE_MAX)),
            }
        }
        Ok(())
    }

    /// Ready with whether anything was sent once nothing is left to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
            self.must_flush = true;
        }
        if self.out.capacity() > OUT_KEPT_MAX {
            self.out = BytesMut::new();
        }
        if self.must_flush {
            // TLS may hold back what the socket would not take.
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.must_flush = false;
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(Ok(false))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
            self.buffer.reserve(READ_BYTES);
        }
        let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(cx);
        let received = ready!(read).map_err(LinkError::Broken)?;
        if received == 0 {
            return Poll::Ready(Err(LinkError::Closed));
        }
        self.pulse.heard = Instant::now();
        Poll::Ready(Ok(()))
    }
}

/// Whose turn the next reply is. Replies come in the order of their commands, and an error does not
/// tell whether it answers a ping.
#[derive(Default)]
struct Turns {
    /// Commands of the link, ever.
    asked: u64,
    /// Those of them that were answered.
    answered: u64,
    /// How many commands were asked before the ping that is unanswered.
    ping: Option<u64>,
}

impl Turns {
    /// A server that answers what nobody asked does not bring the turns into disorder.
    fn note_answered(&mut self) {
        self.answered = self.asked.min(self.answered + 1);
    }

    /// Whether it is the ping's turn; if so, it is over.
    fn take_ping(&mut self) -> bool {
        self.ping.take_if(|before| *before == self.answered).is_some()
    }
}

/// When to ping, and since when nothing was heard.
struct Pulse {
    next: Pin<Box<Sleep>>,
    ping_due: Instant,
    heard: Instant,
    /// When the ping that is unanswered was sent; there is no other until it is answered.
    asked: Option<Instant>,
    round_trip: Duration,
}

enum Beat {
    Nothing,
    Ping,
    Dead,
}

impl Pulse {
    fn new() -> Self {
        let now = Instant::now();
        let ping_due = now + PING_INTERVAL;
        let next = Box::pin(sleep_until(ping_due));
        Self { next, ping_due, heard: now, asked: None, round_trip: Duration::ZERO }
    }

    fn beat(&mut self, now: Instant, ear: Ear) -> Beat {
        if ear == Ear::Closed {
            (self.heard, self.ping_due) = (now, now + PING_INTERVAL);
        }
        if now >= self.heard + SILENCE_MAX {
            return Beat::Dead;
        }
        let is_due = now >= self.ping_due;
        if is_due {
            self.ping_due = now + PING_INTERVAL;
        }
        self.next.as_mut().reset(self.ping_due.min(self.heard + SILENCE_MAX));
        if is_due && self.asked.is_none() {
            self.asked = Some(now);
            return Beat::Ping;
        }
        Beat::Nothing
    }

    fn answered(&mut self, now: Instant) {
        if let Some(asked) = self.asked.take() {
            self.round_trip = now - asked;
        }
    }
}

/// How often every connection pings.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// How long a connection may be without a byte before it is doubted.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(1500);
/// How much one read may bring, and how little room it may find.
const READ_BYTES: usize = SHARED_BUFFER_BYTES;
const READ_BYTES_MIN: usize = 8 * 1024;
/// The largest write buffer kept for the next commands.
const OUT_KEPT_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncWriteExt, duplex},
        time::advance,
    };

    use super::{super::value::Value, *};

    /// A connection whose ping stands between a first and a second command.
    async fn connection_with_ping() -> (Connection, impl AsyncRead + AsyncWrite + Unpin) {
        let (near, far) = duplex(1024);
        let mut connection = Connection::new(Box::new(near), 1024);
        command::write(&mut connection.out, &[b"FIRST"]);
        connection.expect(1);
        advance(PING_INTERVAL).await;
        assert_eq!(connection.progress(Ear::Open).await.unwrap(), Progress::Sent);
        command::write(&mut connection.out, &[b"SECOND"]);
        connection.expect(1);
        assert_eq!(connection.progress(Ear::Open).await.unwrap(), Progress::Sent);
        (connection, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_answered_by_an_error_answers_no_command() {
        let (mut connection, mut far) = connection_with_ping().await;
        far.write_all(b":1\r\n-BUSY running a script\r\n:2\r\n").await.unwrap();
        assert_eq!(connection.progress(Ear::Open).await.unwrap(), Progress::Received);
        for reply in [1, 2] {
            let frame = connection.next_frame().unwrap();
            assert_eq!(frame, Some(Frame::Reply(Value::Integer(reply))));
        }
        assert_eq!(connection.next_frame().unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_a_command_before_the_ping_is_the_commands() {
        let (mut connection, mut far) = connection_with_ping().await;
        far.write_all(b"-NOPERM\r\n+PONG\r\n-NOPERM\r\n").await.unwrap();
        assert_eq!(connection.progress(Ear::Open).await.unwrap(), Progress::Received);
        for _ in ["first", "second"] {
            let frame = connection.next_frame().unwrap();
            assert!(matches!(frame, Some(Frame::Reply(Value::Error(_)))), "{frame:?}");
        }
        assert_eq!(connection.next_frame().unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_answered_by_pushes_gives_its_turn_to_the_ping() {
        let (mut connection, mut far) = connection_with_ping().await;
        connection.note_answered();
        far.write_all(b"-BUSY running a script\r\n:2\r\n").await.unwrap();
        assert_eq!(connection.progress(Ear::Open).await.unwrap(), Progress::Received);
        let frame = connection.next_frame().unwrap();
        assert_eq!(frame, Some(Frame::Reply(Value::Integer(2))));
    }
}
