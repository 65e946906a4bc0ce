//! One connection to a server: bytes both ways, pings, and the proof that the server is alive.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    command,
    error::LinkError,
    resp::Decoder,
    value::{Frame, Value},
};

/// Anything that carries bytes both ways: TCP, TLS over it, a Unix socket.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a server. Commands go into [`Connection::out`]; [`Connection::progress`] sends
/// them and brings bytes in; [`Connection::next_frame`] takes frames out of those.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    buffer: BytesMut,
    /// Commands to send.
    pub(crate) out: BytesMut,
    must_flush: bool,
    pulse: Pulse,
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
            must_flush: false,
            pulse: Pulse::new(),
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

    /// The next frame of what was received. Answers to pings are kept back.
    ///
    /// # Errors
    /// When the server does not keep to the protocol.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, LinkError> {
        loop {
            match self.decoder.decode(&mut self.buffer)? {
                Some(Frame::Reply(Value::Simple(text))) if &text[..] == b"PONG" => {
                    self.pulse.answered(Instant::now());
                }
                frame => return Ok(frame),
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
        if let Poll::Ready(sent) = self.poll_send(cx)
            && sent.map_err(LinkError::Broken)?
        {
            return Poll::Ready(Ok(Progress::Sent));
        }
        if ear == Ear::Closed {
            return Poll::Pending;
        }
        ready!(self.poll_receive(cx))?;
        Poll::Ready(Ok(Progress::Received))
    }

    fn poll_pulse(&mut self, cx: &mut Context<'_>, ear: Ear) -> Result<(), LinkError> {
        while self.pulse.next.as_mut().poll(cx).is_ready() {
            match self.pulse.beat(Instant::now(), ear) {
                Beat::Nothing => {}
                Beat::Ping => command::write(&mut self.out, &[b"PING"]),
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

/// When to ping, and since when nothing was heard.
struct Pulse {
    next: Pin<Box<Sleep>>,
    ping_due: Instant,
    heard: Instant,
    /// When the oldest unanswered ping was sent.
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
            self.asked.get_or_insert(now);
        }
        self.next.as_mut().reset(self.ping_due.min(self.heard + SILENCE_MAX));
        if is_due { Beat::Ping } else { Beat::Nothing }
    }

    fn answered(&mut self, now: Instant) {
        if let Some(asked) = self.asked.take() {
            self.round_trip = now - asked;
        }
    }
}

/// How often every connection pings.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a connection may be without a byte before it counts as dead.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How much one read may bring, and how little room it may find.
const READ_BYTES: usize = 64 * 1024;
const READ_BYTES_MIN: usize = 8 * 1024;
/// The largest write buffer kept for the next commands.
const OUT_KEPT_MAX: usize = 1024 * 1024;
