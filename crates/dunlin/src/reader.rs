//! The reader: a connection's task, from its 101 to its last byte. Bytes become frames, frames
//! become publishes.

use std::{io::ErrorKind, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use dunlin_core::{
    broker::{Publish, ReplyTo},
    error::Disconnect,
    limits::TokenBucket,
};
use dunlin_protocol::plain;
use dunlin_ws::{CloseCode, Compression, Decoder, Event, ProtocolError};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    connection::{Client, Connection, Written},
    shard::Shard,
};

/// Reads a connection until it ends. `early` is what the client sent before it had its 101.
pub(crate) async fn run(shard: Rc<Shard>, connection: Rc<Connection>, mut early: BytesMut) {
    let removal = Removal { shard, connection };
    let (shard, connection) = (&removal.shard, &removal.connection);
    let mut reader = Reader::new(shard, connection.compression());
    if !early.is_empty() {
        reader.take(shard, connection, &mut early);
    }
    drop(early);
    // TLS may hold more of it, decrypted already, of which no socket will tell.
    if reader.read(shard, connection) == Flow::Ended {
        return;
    }
    loop {
        if let Some(since) = reader.unfinished_since
            && connection.ending().is_none()
        {
            let expires_at = since + shard.limits().message_age;
            // Boxed: a timer is large, and an idle connection has none.
            match Box::pin(timeout_at(expires_at, connection.readable())).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_elapsed) => {
                    shard.end(connection, Disconnect::MessageUnfinished);
                    continue;
                }
            }
        } else if connection.readable().await.is_err() {
            return;
        }
        let flow = reader.read(shard, connection);
        if let Some(room) = shard.take_crowd() {
            connection.hold(true);
            room.await;
            connection.hold(false);
        }
        match flow {
            Flow::Open => {}
            // Boxed: a timer is large, and an idle connection has none.
            Flow::Said => return Box::pin(answered(connection)).await,
            Flow::Ended => return,
        }
    }
}

/// Waits until a client that only listens any more has its close frame. Its ending is in the
/// shard's inbox, and ends this wait in any case.
async fn answered(connection: &Connection) {
    while connection.ending().is_none() || connection.backlog_bytes() > 0 {
        sleep(ANSWER_TICK).await;
    }
}

/// Time between two looks whether a close frame is out.
const ANSWER_TICK: Duration = Duration::from_millis(5);

/// Removes the connection whichever way its reader ends: end of stream, abort or panic.
struct Removal {
    shard: Rc<Shard>,
    connection: Rc<Connection>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shard.metrics().panics.inc();
            self.shard.cut(&self.connection, Disconnect::Internal);
        } else {
            let why = self.connection.ending().unwrap_or(Disconnect::ClientLeft);
            self.shard.remove(&self.connection, why);
        }
    }
}

struct Reader {
    decoder: Decoder,
    control_frames: TokenBucket,
    /// When the message began that has not ended yet.
    unfinished_since: Option<Instant>,
    /// Set by the client's close frame or first mistake: nothing it sends counts any more.
    is_done: bool,
}

/// Why and with which close frame a client is to be closed.
struct End {
    why: Disconnect,
    close_frame: Bytes,
}

/// What a mistake of the client's means for it.
fn disconnect(error: ProtocolError) -> Disconnect {
    match error.close_code() {
        CloseCode::INVALID_PAYLOAD => Disconnect::InvalidText,
        CloseCode::TOO_BIG => Disconnect::MessageTooBig,
        CloseCode::POLICY => Disconnect::TooManyFragments,
        _ => Disconnect::ProtocolError,
    }
}

/// Whether there is more to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// The client has said good-bye and sends nothing more, but may still listen for the answer.
    Said,
    Ended,
}

impl Reader {
    fn new(shard: &Shard, compression: Compression) -> Self {
        Self {
            decoder: Decoder::new(compression),
            control_frames: TokenBucket::full(shard.limits().control_burst),
            unfinished_since: None,
            is_done: false,
        }
    }

    /// Reads once into the shard's buffer and handles what came.
    fn read(&mut self, shard: &Rc<Shard>, connection: &Rc<Connection>) -> Flow {
        let Some(stream) = connection.stream() else { return Flow::Ended };
        let mut buffer = shard.read_buffer();
        let count = match stream.try_read(&mut buffer) {
            Ok(0) if self.is_done => return Flow::Said,
            Ok(0) => return Flow::Ended,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Flow::Open,
            Err(_) => return Flow::Ended,
        };
        shard.tally().received(count);
        connection.hear();
        self.take(shard, connection, &mut buffer[..count]);
        Flow::Open
    }

    /// Handles bytes of the client, unless it has said good-bye, or we have: only what it publishes
    /// until it has heard that the node leaves still counts. A client that is to be closed gets
    /// first what it published just before: its echo comes by way of the broker.
    fn take(&mut self, shard: &Rc<Shard>, connection: &Rc<Connection>, bytes: &mut [u8]) {
        let is_over = !matches!(connection.ending(), None | Some(Disconnect::NodeLeaving));
        if self.is_done || is_over {
            return;
        }
        match self.decode(shard, connection, bytes) {
            Ok(_) if !self.decoder.is_mid_message() => self.unfinished_since = None,
            Ok(0) if self.unfinished_since.is_some() => {}
            Ok(_) => self.unfinished_since = Some(Instant::now()),
            Err(End { why, close_frame }) => {
                self.is_done = true;
                self.unfinished_since = None;
                shard.end_after_turn(connection.id(), why, close_frame);
            }
        }
    }

    /// Decodes and handles every event in `bytes`; counts the messages that were completed. They
    /// are published together at the end, also when something after them is wrong.
    fn decode(
        &mut self,
        shard: &Rc<Shard>,
        connection: &Rc<Connection>,
        bytes: &mut [u8],
    ) -> Result<usize, End> {
        let outcome = self.decode_each(shard, connection, bytes);
        let messages = shard.publish_gathered();
        // What was answered at once leaves before the next read, in one message.
        shard.flush_replies();
        outcome.map(|count| messages + count)
    }

    fn decode_each(
        &mut self,
        shard: &Rc<Shard>,
        connection: &Rc<Connection>,
        mut bytes: &mut [u8],
    ) -> Result<usize, End> {
        let end = |why| End { why, close_frame: connection.close_frame(why) };
        let mut context = shard.decoding(connection.client());
        let mut commands = 0;
        loop {
            let decoded = self.decoder.decode(&mut context, bytes);
            let (consumed, event) = decoded.map_err(|error| end(disconnect(error)))?;
            let Some(event) = event else { return Ok(commands) };
            match event {
                Event::Message { kind, payload } => match connection.client() {
                    Client::Plain(listener) if !listener.options().allow_plain_publish => {
                        return Err(end(Disconnect::NotAllowed));
                    }
                    Client::Plain(listener) => {
                        let publication = plain::publication(listener.channel(), kind, payload);
                        let retention = listener.options().retention();
                        let publish = Publish { publication, retention, terms: None };
                        shard.gather(publish, ReplyTo::Connection(connection.id()));
                    }
                    Client::Centrifuge(_) => {
                        shard.take_message(connection, payload).map_err(end)?;
                        commands += 1;
                    }
                },
                Event::Ping(payload) => {
                    self.take_control_token(shard).map_err(end)?;
                    let pong = dunlin_ws::pong_frame(payload);
                    // Nothing follows our close frame.
                    let is_open = connection.ending().is_none();
                    if is_open && shard.write(connection, &pong) == Written::Overrun {
                        return Err(end(Disconnect::SlowReader));
                    }
                }
                Event::Pong(_) => self.take_control_token(shard).map_err(end)?,
                Event::Close { code, .. } => {
                    let echo = dunlin_ws::close_frame(code.unwrap_or(CloseCode::NORMAL), "");
                    return Err(End { why: Disconnect::ClientLeft, close_frame: echo });
                }
            }
            bytes = &mut bytes[consumed..];
        }
    }

    fn take_control_token(&mut self, shard: &Shard) -> Result<(), Disconnect> {
        let limits = shard.limits();
        let now_ms = shard.uptime_ms();
        if self.control_frames.take(now_ms, limits.control_rate, limits.control_burst) {
            Ok(())
        } else {
            Err(Disconnect::ControlFlood)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs beside its socket is mostly this. The bounds are what it
    /// takes today; raise them only with a measurement.
    #[test]
    fn an_idle_connection_is_small() {
        fn future_size<F: Future>(
            _: impl FnOnce(Rc<Shard>, Rc<Connection>, BytesMut) -> F,
        ) -> usize {
            size_of::<F>()
        }
        assert!(future_size(run) <= 200, "reader task: {}", future_size(run));
        assert!(size_of::<Connection>() <= 200, "connection: {}", size_of::<Connection>());
    }
}
