//! What was sent and has no answer yet.

use std::mem;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{link::value::Value, queue::Waiting};

/// What one command, or one transaction, carries.
pub(super) enum Sent {
    /// Publishes that nothing tells of but the answer whether they happened.
    Together(Transaction),
    /// Publishes that Redis can be asked about.
    Repeatable(Vec<Waiting>),
    /// The lane's own.
    Own(Own),
    /// Its publishers have been answered already.
    GivenUp,
}

/// What no publisher waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// The probe with this number.
    Probe(u64),
    /// A lot that is restored.
    Restore(usize),
}

/// Publishes that happen together or not at all.
pub(super) struct Transaction {
    pub(super) together: Vec<Waiting>,
    /// Answers still to come that say only that a command was taken down.
    pub(super) queued: usize,
    /// The first error among those.
    pub(super) refusal: Option<Bytes>,
    /// Whether a command was done at once, outside of any transaction.
    pub(super) has_leaked: bool,
}

impl Transaction {
    /// One of so many commands, the last of which does it.
    pub(super) fn new(together: Vec<Waiting>, commands: usize) -> Self {
        Self { together, queued: commands - 1, refusal: None, has_leaked: false }
    }

    /// Takes the answer to a command that is to be taken down.
    pub(super) fn note_queued(&mut self, answer: Value) {
        self.queued -= 1;
        match answer {
            Value::Simple(_) => {}
            Value::Error(text) => {
                self.refusal.get_or_insert(text);
            }
            _ => self.has_leaked = true,
        }
    }
}

impl Sent {
    /// Whether no publisher waits for its answer.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Own(_) | Self::GivenUp)
    }

    pub(super) fn publishes(&self) -> &[Waiting] {
        match self {
            Self::Together(transaction) => &transaction.together,
            Self::Repeatable(together) => together,
            Self::Own(_) | Self::GivenUp => &[],
        }
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.publishes().first().map(Waiting::since)
    }

    /// The publishes; what is left takes their answers and tells nobody.
    pub(super) fn take(&mut self) -> Vec<Waiting> {
        match self {
            Self::Together(transaction) => mem::take(&mut transaction.together),
            Self::Repeatable(together) => {
                let together = mem::take(together);
                *self = Self::GivenUp;
                together
            }
            Self::Own(_) | Self::GivenUp => Vec::new(),
        }
    }
}
