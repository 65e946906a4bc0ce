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
}

impl Shard {
    /// What is kept for one client was `before` bytes and is `after` now.
    pub(crate) fn change_debts(&self, before: usize, after: usize) {
        self.debts.bytes.set(self.debts.bytes.get() + after - before);
        self.tally.kept(before, after);
    }

    /// Notes how many bytes of what a client sent wait in its reader.
    pub(crate) fn note_unhandled(self: &Rc<Self>, connection: &Connection, bytes: usize) {
        // What there is of one that ends is dropped with the next that comes, or in a moment.
        let bytes = if connection.ending().is_some() { 0 } else { bytes };
        let before = connection.note_unhandled(bytes);
        if before == bytes {
            return;
        }
        self.change_debts(before, bytes);
        if before < bytes {
            self.bound_debts();
        }
    }

    /// When too much is kept, those for whom it is most do not get it: others wait, too.
    pub(crate) fn bound_debts(self: &Rc<Self>) {
        let max = self.limits().private_bytes;
        if self.debts.bytes.get() <= max {
            return;
        }
        let mut debtors: Vec<_> = {
            let connections = self.connections.borrow();
            let all = connections.iter().map(|(_, one)| (one.private_bytes(), Rc::clone(one)));
            all.filter(|(bytes, one)| *bytes > 0 && one.ending().is_none()).collect()
        };
        debtors.sort_by_key(|(bytes, _)| Reverse(*bytes));
        // Any single answer and message must pass; and a little more room than one takes, so that
        // not every one leads here.
        let last = debtors.len().saturating_sub(1);
        for (_, connection) in &debtors[..last] {
            if self.debts.bytes.get() <= max / 8 * 7 {
                break;
            }
            self.end(connection, Disconnect::SlowReader);
        }
    }
}
