//! The reader: a connection's task, from its 101 to its last byte. It reads when it is its client's
//! turn; what it makes of the bytes is in `taking.rs`.

mod taking;

use std::{rc::Rc, time::Duration};

use bytes::BytesMut;
use dunlin_core::error::Disconnect;
use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout_at},
};

use self::taking::{Flow, Reader};
use crate::{
    connection::Connection,
    memory::Level,
    shard::{Brake, Shard},
};

/// Reads a connection until it ends. `early` is what the client sent before it had its 101.
pub(crate) async fn run(shard: Rc<Shard>, connection: Rc<Connection>, mut early: BytesMut) {
    let removal = Removal { shard, connection };
    let (shard, connection) = (&removal.shard, &removal.connection);
    let mut reader = Reader::new(connection.compression());
    if !early.is_empty() {
        reader.take(shard, connection, &mut early);
        shard.note_unhandled(connection, reader.held_bytes());
    }
    drop(early);
    // TLS may hold more of it, decrypted already, of which no socket will tell.
    let mut is_readable = true;
    loop {
        if !is_readable && !reader.has_rest() {
            let is_there = match reader.unfinished_since() {
                // Boxed, as all that is rare: an idle connection has no room for it.
                Some(since) => {
                    Box::pin(readable_in_time(&mut reader, shard, connection, since)).await
                }
                None => connection.readable().await.is_ok(),
            };
            if !is_there {
                return;
            }
        }
        // What was left to do comes before it.
        is_readable = is_readable && reader.has_rest();
        // Who does not read is not read from, so that nobody can make the node owe without end.
        if connection.owes_much() {
            Box::pin(held(&mut reader, connection, connection.read())).await;
        }
        if shard.memory().is(Level::Scarce) && reader.held_bytes() > MUCH_BYTES {
            Box::pin(held(&mut reader, connection, shard.memory().relaxed())).await;
        }
        let (flow, brake) = match reader.share().is_used_up(|| shard.uptime_ms()) {
            true => Box::pin(behind_others(&mut reader, shard, connection)).await,
            false => turn(&mut reader, shard, connection),
        };
        if let Some(brake) = brake {
            Box::pin(held(&mut reader, connection, brake.released(connection))).await;
        }
        match flow {
            Flow::Open if reader.has_rest() => yield_now().await,
            Flow::Open => {}
            Flow::Vain => Box::pin(sleep(VAIN_PAUSE)).await,
            Flow::Said => return Box::pin(answered(connection)).await,
            Flow::Ended => return,
        }
    }
}

/// Who has so much in its reader waits while memory is scarce.
const MUCH_BYTES: usize = 16 * 1024;

/// Waits until there is more of a message that began at `since`; false when nothing comes any more.
async fn readable_in_time(
    reader: &mut Reader,
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    since: Instant,
) -> bool {
    let expires_at = since + shard.limits().message_age;
    while connection.ending().is_none() {
        let look_at = expires_at.min(Instant::now() + LOOK);
        match timeout_at(look_at, connection.readable()).await {
            Ok(readable) => return readable.is_ok(),
            Err(_elapsed) if Instant::now() >= expires_at => {
                shard.end(connection, Disconnect::MessageUnfinished);
            }
            Err(_elapsed) => {}
        }
    }
    // Its memory is needed: it may be why the connection ends.
    reader.give_up(connection);
    shard.note_unhandled(connection, reader.held_bytes());
    connection.readable().await.is_ok()
}

/// Time between two reads from a client that goes on sending although it is being closed. It is
/// read from at all because unread bytes would reset the socket and take the close frame along.
const VAIN_PAUSE: Duration = Duration::from_millis(20);

/// Time between two looks whether the connection of a message that is not whole ends.
const LOOK: Duration = Duration::from_millis(250);

/// One turn, and what it has brought on its client: not on who has the next turn.
fn turn(
    reader: &mut Reader,
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
) -> (Flow, Option<Box<Brake>>) {
    let flow = reader.go_on(shard, connection);
    shard.note_unhandled(connection, reader.held_bytes());
    (flow, shard.take_brake(reader.take_pause(shard)))
}

/// A turn when those who have used up their share before had one each.
async fn behind_others(
    reader: &mut Reader,
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
) -> (Flow, Option<Box<Brake>>) {
    let place = shard.queue().turn().await;
    let outcome = turn(reader, shard, connection);
    shard.queue().end(place).await;
    outcome
}

/// Waits, and does not read from the client meanwhile: its silence is ours then.
async fn held(reader: &mut Reader, connection: &Connection, wait: impl Future<Output = ()>) {
    let began_at = Instant::now();
    connection.hold(true);
    wait.await;
    connection.hold(false);
    reader.excuse(began_at.elapsed());
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
        assert!(future_size(run) <= 216, "reader task: {}", future_size(run));
        assert!(size_of::<Connection>() <= 208, "connection: {}", size_of::<Connection>());
    }
}
