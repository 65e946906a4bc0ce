//! The door: sockets that have no 101 yet, as many as there are places. When places are short, who
//! has been silent longest goes, never one whose request is being answered.

mod exchange;
mod table;
mod watched;

use std::{future::pending, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, oneshot};

use self::table::{Table, VisitorId};
pub(crate) use self::{
    exchange::{answer, request},
    table::{Bounds, Evicted},
    watched::Watched,
};
use super::source::Source;

/// The door of one listener.
pub(crate) struct Door {
    table: Mutex<Table>,
    /// Somebody has left, or does something else now.
    changed: Notify,
}

/// A socket at the door; dropping it gives its place back.
pub(crate) struct Visitor {
    pass: Pass,
    sent_away: oneshot::Receiver<()>,
}

/// What tells the door how a visitor behaves. Tells nothing once that has left.
#[derive(Clone)]
pub(crate) struct Pass {
    door: Arc<Door>,
    id: VisitorId,
}

impl Door {
    pub(crate) fn new(bounds: Bounds, evicted: Evicted, count: Gauge) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(Table::new(bounds, evicted, count)),
            changed: Notify::new(),
        })
    }

    /// Waits while nobody can be taken in: all are being answered, or many are new.
    /// Cancel-safe.
    pub(crate) async fn room(&self) {
        self.wait_until(Table::has_room).await;
    }

    /// Waits until nobody is left. Cancel-safe.
    pub(crate) async fn emptied(&self) {
        self.wait_until(Table::is_empty).await;
    }

    /// Takes in a socket, in place of another one if all places are taken. It counts for its
    /// address, if that is known to be a client's.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Visitor {
        let sources = address.map(Source::all).unwrap_or_default();
        let (id, sent_away) = self.table.lock().enter(sources);
        Visitor { pass: Pass { door: Arc::clone(self), id }, sent_away }
    }

    async fn wait_until(&self, holds: impl Fn(&Table) -> bool) {
        loop {
            // Before the look at the table, so that no change falls in between.
            let changed = self.changed.notified();
            if holds(&self.table.lock()) {
                return;
            }
            changed.await;
        }
    }
}

impl Visitor {
    pub(crate) fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Waits until it has to go. Cancel-safe.
    pub(crate) async fn sent_away(&mut self) {
        // Who has left already cannot be sent away any more.
        if (&mut self.sent_away).await.is_err() {
            pending::<()>().await;
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.pass.leave();
    }
}

impl Pass {
    /// It needs no place any more.
    pub(crate) fn leave(&self) {
        if self.door.table.lock().leave(self.id) {
            self.door.changed.notify_waiters();
        }
    }

    /// It counts for this address from now on.
    pub(crate) fn comes_from(&self, address: IpAddr) {
        self.door.table.lock().comes_from(self.id, Source::all(address));
    }

    /// Nothing more is there of what it sent.
    fn found_silent(&self) {
        self.door.table.lock().found_silent(self.id);
        self.door.changed.notify_waiters();
    }

    /// It sent a whole request.
    fn asked(&self) {
        self.door.table.lock().asked(self.id);
        self.door.changed.notify_waiters();
    }

    /// All of its answer is handed over.
    fn answered(&self) {
        self.door.table.lock().answered(self.id);
        self.door.changed.notify_waiters();
    }

    /// It took something of what it is sent.
    fn took(&self) {
        self.door.table.lock().took(self.id);
    }
}
