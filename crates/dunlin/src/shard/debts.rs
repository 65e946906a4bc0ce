//! What a shard keeps for single clients: answers that they asked for and have not read, and what
//! they sent that is not whole, or whose turn has not come. Publications are no debts: they are in
//! memory once for all who wait for them.

use std::{cell::Cell, cmp::Reverse, rc::Rc};

use dunlin_core::error::Disconnect;

use super::Shard;
use crate::connection::Connection;

/// Bytes that a shard keeps for single clients, all of them together.
#[derive(Debug, Default)]
pub(super) struct Debts {
    bytes: Cell<usize>,
    /// Of these, what is kept for clients that are being closed: it goes within moments.
    going: Cell<usize>,
}

/// Nobody is closed for less when the node has no memory left.
const SHED_MIN_BYTES: usize = 16 * 1024;

impl Shard {
    /// What is kept for one client was `before` bytes and is `after` now.
    pub(crate) fn change_debts(&self, connection: &Connection, before: usize, after: usize) {
        let Debts { bytes, going } = &self.debts;
        bytes.set(bytes.get() + after - before);
        if connection.ending().is_some() {
            going.set(going.get() + after - before);
        }
        self.tally.kept(before, after);
    }

    /// Notes that a client is being closed.
    pub(crate) fn note_going(&self, connection: &Connection) {
        self.debts.going.set(self.debts.going.get() + connection.private_bytes());
    }

    /// Notes how many bytes of what a client sent wait in its reader.
    pub(crate) fn note_unhandled(self: &Rc<Self>, connection: &Connection, bytes: usize) {
        let (before, after) = connection.note_unhandled(bytes);
        if before == after {
            return;
        }
        self.change_debts(connection, before, after);
        if before < after {
            self.bound_debts();
        }
    }

    /// When too much is kept, those for whom it is most do not get it: others wait, too.
    pub(crate) fn bound_debts(self: &Rc<Self>) {
        let max = self.limits().private_bytes;
        let staying = || self.debts.bytes.get() - self.debts.going.get();
        if staying() <= max {
            return;
        }
        let debtors = self.debtors(0, Connection::private_bytes);
        // Any single answer and message must pass; and a little more room than one takes, so that
        // not every one leads here.
        let last = debtors.len().saturating_sub(1);
        for (_, connection) in &debtors[..last] {
            if staying() <= max / 8 * 7 {
                break;
            }
            let why = match connection.answers_predominate() {
                true => Disconnect::SlowReader,
                false => Disconnect::MemoryShort,
            };
            self.end(connection, why);
        }
    }

    /// Closes those for whom most is kept until so many bytes are free: the node has no memory
    /// left. Who keeps up stays.
    pub(super) fn shed(self: &Rc<Self>, bytes: usize) {
        // What is kept for those who are being closed goes within moments, and is not there twice.
        let going = self.connections.borrow().iter().fold(0, |going, (_, one)| {
            going + if one.ending().is_some() { one.kept_bytes() } else { 0 }
        });
        let mut freed = going;
        for (kept, connection) in self.debtors(SHED_MIN_BYTES, Connection::kept_bytes) {
            if freed >= bytes {
                break;
            }
            freed += kept;
            self.end(&connection, Disconnect::MemoryShort);
        }
    }

    /// All for whom more than so many bytes are kept, the most first.
    fn debtors(
        &self,
        more_than: usize,
        bytes_of: impl Fn(&Connection) -> usize,
    ) -> Vec<(usize, Rc<Connection>)> {
        let mut debtors: Vec<_> = {
            let connections = self.connections.borrow();
            let all = connections.iter().map(|(_, one)| (bytes_of(one), Rc::clone(one)));
            all.filter(|(bytes, one)| *bytes > more_than && one.ending().is_none()).collect()
        };
        debtors.sort_by_key(|(bytes, _)| Reverse(*bytes));
        debtors
    }
}
