//! The one way in which a connection ends, whoever wants it to.

use std::{io, rc::Rc, time::Duration};

use bytes::Bytes;
use dunlin_core::error::Disconnect;
use tokio::{
    task::spawn_local,
    time::{Instant, sleep_until, timeout_at},
};

use super::{Connection, Flushed, HELD_BACK, writing::Drain};
use crate::{backlog::Cause, shard::Shard};

/// How long a client may take to read its close frame and to close its side.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

impl Shard {
    /// Ends a connection: it gets no more publications, its close frame, a grace to read it.
    pub(crate) fn end(self: &Rc<Self>, connection: &Rc<Connection>, why: Disconnect) {
        self.end_with(connection, why, self.close_frame(connection, why));
    }

    /// Ends a connection with a close frame of the caller's.
    pub(crate) fn end_with(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        why: Disconnect,
        close_frame: Bytes,
    ) {
        if connection.ending().is_some() {
            return;
        }
        connection.ending.set(Some(why));
        self.note_going(connection);
        self.record_close(connection, why, Some(&close_frame));
        self.forget_held_back(connection);
        connection.set_flag(HELD_BACK, false);
        self.unsubscribe_all_of(connection);
        if connection.stream().is_none() || why == Disconnect::PongTimeout {
            self.cut(connection, why);
            return;
        }
        self.with_backlog(connection, |backlog| {
            let before = backlog.bytes();
            if !matches!(why, Disconnect::NodeLeaving | Disconnect::ClientLeft) {
                backlog.cut_at_frame_end();
            }
            self.tally().dropped(before - backlog.bytes());
            self.tally().queued(close_frame.len());
            backlog.push(close_frame, 0, Cause::Pushed, Instant::now());
        });
        if matches!(why, Disconnect::SlowReader | Disconnect::MemoryShort)
            && let Some(stream) = connection.stream()
        {
            stream.make_room_for_last_words();
        }
        let close = spawn_local(close(Rc::clone(self), Rc::clone(connection), why));
        // What emptied the backlog before ends with this.
        let before = connection.drain.replace(Some(Box::new(Drain::new(&close))));
        drop(before);
    }

    /// Ends a connection at once, with a close frame if its socket happens to take one.
    pub(crate) fn cut(self: &Rc<Self>, connection: &Rc<Connection>, why: Disconnect) {
        let is_between_frames =
            connection.drain.borrow().is_none() && connection.backlog.borrow().is_empty();
        if let Some(stream) = connection.stream()
            && is_between_frames
        {
            // Nobody may be there to read it.
            let _ = stream.try_write(&self.close_frame(connection, why));
        }
        self.remove(connection, why);
    }
}

/// Flushes what is left, half-closes, and gives the client time to close its side: a socket closed
/// with unread bytes in it would be reset and the close frame lost on the way.
async fn close(shard: Rc<Shard>, connection: Rc<Connection>, why: Disconnect) {
    let flush = async {
        while let Flushed::Partly(_) = connection.write_backlog(&shard).await? {}
        io::Result::Ok(())
    };
    let gone_at = Instant::now() + CLOSE_GRACE;
    let is_flushed = matches!(timeout_at(gone_at, flush).await, Ok(Ok(())));
    if is_flushed
        && why != Disconnect::ClientLeft
        && let Some(stream) = connection.stream()
    {
        stream.shutdown_write();
        // The reader ends at the client's end of stream, and aborts this wait.
        sleep_until(gone_at).await;
    }
    shard.remove(&connection, why);
}
