//! Expiry: what happens to a session when its time comes. One wake per session, for the earliest
//! of its deadlines, kept in one table of the shard.

use std::{rc::Rc, time::Duration};

use dunlin_core::{channel::ChannelName, error::Disconnect, event::Unsubscribe};
use tokio::time::Instant;

use super::{Session, Side, policy::Policy};
use crate::{clock::unix_now, connection::Connection, shard::Shard};

impl Shard {
    /// Sees to it that the session is looked at when the earliest of its deadlines has come.
    pub(crate) fn set_wake(&self, connection: &Rc<Connection>) {
        let Some(session) = connection.session() else { return };
        let mut session = session.borrow_mut();
        let wakes_at = session.next_deadline(self.policy());
        if wakes_at != session.wakes_at {
            let mut alarms = self.alarms();
            let key = |at| (at, connection.id().slot);
            if let Some(old) = session.wakes_at {
                alarms.remove(&key(old));
            }
            if let Some(new) = wakes_at {
                alarms.insert(key(new));
            }
            session.wakes_at = wakes_at;
        }
    }

    /// Forgets the wake of a session that ends.
    pub(crate) fn unset_wake(&self, connection: &Connection) {
        let Some(session) = connection.session() else { return };
        if let Some(at) = session.borrow_mut().wakes_at.take() {
            self.alarms().remove(&(at, connection.id().slot));
        }
    }

    /// Looks at every session one of whose deadlines has come.
    pub(crate) fn wake_due(self: &Rc<Self>) {
        let now = Instant::now();
        loop {
            let due = self.alarms().first().copied().filter(|(at, _)| *at <= now);
            let Some((at, slot)) = due else { break };
            self.alarms().remove(&(at, slot));
            if let Some(connection) = self.connection_at(slot) {
                self.wake(&connection, now);
            }
        }
        self.flush_replies();
    }

    fn wake(self: &Rc<Self>, connection: &Rc<Connection>, now: Instant) {
        let Some(session) = connection.session() else { return };
        session.borrow_mut().wakes_at = None;
        if session.borrow().connect_by().is_some_and(|by| by <= now) {
            return self.end(connection, Disconnect::Stale);
        }
        let unix = unix_now();
        let is_over = |expire_at, grace| left(expire_at, grace, unix) == Some(0);
        let policy = self.policy();
        if is_over(session.borrow().identity.expire_at, policy.connection_grace) {
            return self.end(connection, Disconnect::Expired);
        }
        let expired: Vec<(ChannelName, Side)> = {
            let session = session.borrow();
            let all = session.subscriptions.iter();
            let over = all.filter(|s| is_over(s.expire_at, policy.subscription_grace));
            over.map(|subscription| (subscription.channel.clone(), subscription.side)).collect()
        };
        for (channel, side) in expired {
            match side {
                Side::Client => self.unsubscribe(connection, &channel, Unsubscribe::Expired),
                Side::Server => return self.end(connection, Disconnect::SubscriptionExpired),
            }
        }
        self.set_wake(connection);
    }
}

impl Session {
    fn next_deadline(&self, policy: &Policy) -> Option<Instant> {
        let (now, unix) = (Instant::now(), unix_now());
        let after = |expire_at, grace| {
            let left = Duration::from_secs(left(expire_at, grace, unix)?);
            // What is further away than clocks reach never comes.
            now.checked_add(left)
        };
        let connection = after(self.identity.expire_at, policy.connection_grace);
        let subscriptions = self.subscriptions.iter();
        let subscriptions =
            subscriptions.filter_map(|s| after(s.expire_at, policy.subscription_grace));
        [self.connect_by(), connection].into_iter().flatten().chain(subscriptions).min()
    }
}

/// Seconds until a token that expires is over for good, its grace included.
fn left(expire_at: Option<u64>, grace: Duration, unix: u64) -> Option<u64> {
    Some(expire_at?.saturating_add(grace.as_secs()).saturating_sub(unix))
}
