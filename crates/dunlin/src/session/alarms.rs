//! Alarms: one wake per session, for the earliest of its deadlines, in one table of the shard.

use std::{rc::Rc, time};

use dunlin_core::session::Input;
use tokio::time::Instant;

use crate::{connection::Connection, metering::Around, shard::Shard};

impl Shard {
    /// Sees to it that a session is woken then, and not when it was to be before.
    pub(super) fn set_alarm(&self, connection: &Connection, at: Option<time::Instant>) {
        let Some(alarm) = connection.alarm() else { return };
        let at = at.map(Instant::from_std);
        let before = alarm.replace(at);
        if before != at {
            let key = |at| (at, connection.id().slot);
            let mut alarms = self.alarms();
            if let Some(before) = before {
                alarms.remove(&key(before));
            }
            alarms.extend(at.map(key));
        }
    }

    /// Sets the alarm of a client that has its socket.
    pub(crate) fn set_first_alarm(&self, connection: &Connection) {
        if let Some(session) = connection.session() {
            let around = Around { shard: self, connection };
            let at = session.borrow().wakes_at(&self.context(&around));
            self.set_alarm(connection, at);
        }
    }

    /// Wakes every session one of whose deadlines has come.
    pub(crate) fn wake_due(self: &Rc<Self>) {
        let now = Instant::now();
        loop {
            let due = self.alarms().first().copied().filter(|(at, _)| *at <= now);
            let Some((at, slot)) = due else { break };
            self.alarms().remove(&(at, slot));
            if let Some(connection) = self.connection_at(slot) {
                connection.alarm().map(|alarm| alarm.take());
                self.tell_session(&connection, Input::Deadline);
            }
        }
        self.flush_replies();
    }
}
