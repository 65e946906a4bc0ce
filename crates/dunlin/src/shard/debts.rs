//! What a shard owes: answers that clients asked for and have not read. Publications are in memory
//! once for all who wait for them; an answer is one client's alone.

use std::{cell::Cell, cmp::Reverse, rc::Rc};

use dunlin_core::error::Disconnect;

use super::Shard;

/// Bytes of answers that wait for all clients of a shard.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    bytes: Cell<usize>,
}

impl Answers {
    /// One client's answers waited with `before` bytes and do so with `after` now.
    pub(crate) fn owe(&self, before: usize, after: usize) {
        self.bytes.set(self.bytes.get() + after - before);
    }
}

impl Shard {
    /// When too much is owed, those who are owed most do not get it: others wait for their answers.
    pub(crate) fn bound_debts(self: &Rc<Self>) {
        let max = self.limits().answers_bytes;
        if self.answers.bytes.get() <= max {
            return;
        }
        let mut debts: Vec<_> = {
            let connections = self.connections.borrow();
            let owed = connections.iter().map(|(_, one)| (one.answer_bytes(), Rc::clone(one)));
            owed.filter(|(bytes, _)| *bytes > 0).collect()
        };
        debts.sort_by_key(|(bytes, _)| Reverse(*bytes));
        // Any single answer must pass; and a little more room than one answer takes, so that not
        // every answer leads here.
        let last = debts.len().saturating_sub(1);
        for (_, connection) in &debts[..last] {
            if self.answers.bytes.get() <= max / 8 * 7 {
                break;
            }
            self.end(connection, Disconnect::SlowReader);
        }
    }
}
