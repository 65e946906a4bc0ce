//! Writing to a connection: at once, or by its backlog.

use std::{cell::Cell, io::ErrorKind, rc::Rc, time::Duration};

use bytes::Bytes;
use dunlin_core::error::Disconnect;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle, spawn_local},
    time::{Instant, timeout_at},
};

use super::{Connection, Flushed, HELD_BACK, Written};
use crate::{
    backlog::{Backlog, Cause},
    shard::Shard,
};

impl Shard {
    /// Writes whole frames to a connection: at once if its socket takes them, through its backlog
    /// otherwise. What nobody asked for may be too much for that.
    pub(crate) fn write(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        frames: &Bytes,
        cause: Cause,
    ) -> Written {
        let mut written = 0;
        if let Some(stream) = connection.stream()
            && connection.drain.borrow().is_none()
            && !connection.has_flag(HELD_BACK)
        {
            match stream.try_write(frames) {
                Ok(count) => written = count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The socket is dead. Its reader sees that too and removes the connection.
                Err(_) => return Written::Taken,
            }
            self.tally().wrote(written);
            if written == frames.len() && matches!(stream.try_flush(), Ok(true)) {
                return Written::Taken;
            }
        }
        self.write_later(connection, frames, written, cause)
    }

    /// Writes whole frames before everything that was held back, which follows.
    pub(crate) fn write_first(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        frames: &Bytes,
    ) -> Written {
        connection.set_flag(HELD_BACK, false);
        let held_back = self.take_backlog(connection);
        let mut written = self.write(connection, frames, Cause::Asked);
        for (frames, cause) in held_back.into_runs() {
            if written != Written::Overrun {
                written = self.write(connection, &frames, cause);
            }
        }
        written
    }

    /// Forgets what was held back: what should have come before it does not come.
    pub(crate) fn forget_held_back(&self, connection: &Connection) {
        if connection.has_flag(HELD_BACK) {
            self.take_backlog(connection);
        }
    }

    /// Takes everything out of a backlog.
    pub(crate) fn take_backlog(&self, connection: &Connection) -> Backlog {
        self.with_backlog(connection, |backlog| {
            self.tally().dropped(backlog.bytes());
            backlog.take()
        })
    }

    /// Changes a backlog; the shard knows afterwards what it owes.
    pub(super) fn with_backlog<T>(
        &self,
        connection: &Connection,
        change: impl FnOnce(&mut Backlog) -> T,
    ) -> T {
        let mut backlog = connection.backlog.borrow_mut();
        let before = backlog.answer_bytes();
        let outcome = change(&mut backlog);
        self.change_debts(connection, before, backlog.answer_bytes());
        outcome
    }

    fn write_later(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        frames: &Bytes,
        written: usize,
        cause: Cause,
    ) -> Written {
        let rest = frames.len() - written;
        if let Cause::Conflated(channel) = cause {
            let bytes = self.with_backlog(connection, |backlog| backlog.conflate(channel));
            self.tally().dropped(bytes);
        }
        let pushed = connection.backlog.borrow().pushed_bytes();
        // What comes first may be larger: any single message must pass.
        let is_too_much = pushed > 0 && pushed + rest > self.limits().backlog_bytes;
        if cause != Cause::Asked && is_too_much {
            return Written::Overrun;
        }
        if rest > 0 {
            self.tally().queued(rest);
            let now = Instant::now();
            self.with_backlog(connection, |b| b.push(frames.clone(), written, cause, now));
        }
        self.start_drain(connection);
        match pushed + rest > self.limits().backlog_bytes / BEHIND {
            true => Written::Behind,
            false => Written::Taken,
        }
    }

    /// Starts emptying the backlog, unless there is no socket yet or it is being emptied.
    pub(crate) fn start_drain(self: &Rc<Self>, connection: &Rc<Connection>) {
        let mut task = connection.drain.borrow_mut();
        let may_write = connection.stream().is_some() && !connection.has_flag(HELD_BACK);
        if task.is_none() && may_write {
            let drain = drain(Rc::clone(self), Rc::clone(connection));
            *task = Some(Box::new(Drain::new(&spawn_local(drain))));
        }
    }
}

/// The task that empties a backlog; dropping it aborts the task.
pub(super) struct Drain {
    task: AbortHandle,
    done: Rc<Notify>,
    /// When the socket took something last.
    moved_at: Cell<Instant>,
}

/// How long a client may take nothing that has more to read, and still be one that reads.
const MOVING: Duration = Duration::from_millis(200);

impl Drain {
    pub(super) fn new(task: &JoinHandle<()>) -> Self {
        let moved_at = Cell::new(Instant::now());
        Self { task: task.abort_handle(), done: Rc::default(), moved_at }
    }

    pub(super) fn is_moving(&self) -> bool {
        self.moved_at.get().elapsed() < MOVING
    }

    /// What tells of its end.
    pub(super) fn done(&self) -> Rc<Notify> {
        Rc::clone(&self.done)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.task.abort();
        self.done.notify_waiters();
    }
}

/// Which part of its bound a backlog may take before its client is behind.
const BEHIND: usize = 8;

/// Bytes that a client has to take within `limits.backlog_age` for not being slow.
const STEADY_BYTES: usize = 64 * 1024;

/// Empties the backlog; ends the connection when its client does not read. Slow is who reads
/// nothing to speak of for too long, not who has much to read.
async fn drain(shard: Rc<Shard>, connection: Rc<Connection>) {
    let age = shard.limits().backlog_age;
    let mut taken = 0;
    let mut steady_at = Instant::now();
    loop {
        let since = connection.backlog.borrow().waits_since();
        let expires_at = since.map_or(steady_at, |since| since.max(steady_at)) + age;
        match timeout_at(expires_at, connection.write_backlog(&shard)).await {
            Ok(Ok(Flushed::Partly(bytes))) => {
                if bytes > 0
                    && let Some(drain) = &*connection.drain.borrow()
                {
                    drain.moved_at.set(Instant::now());
                }
                taken += bytes;
                if taken >= STEADY_BYTES {
                    taken = 0;
                    steady_at = Instant::now();
                }
            }
            // Empty; or dead, which the reader sees too.
            Ok(Ok(Flushed::Wholly) | Err(_)) => break,
            Err(_elapsed) => return shard.end(&connection, Disconnect::SlowReader),
        }
    }
    connection.drain.take();
}
