//! What decoding needs once per shard, by dialect.

use std::cell::{RefCell, RefMut};

use dunlin_core::limits::Limits;

use crate::connection::Client;

/// How many times longer than a message may be one of several commands, each of which may be as
/// long: a client that comes back asks for all of its channels with one, and a token for each.
const COMMANDS_BYTES: usize = 16;

/// See the module's text.
pub(super) struct Decoding {
    plain: RefCell<dunlin_ws::Context>,
    centrifuge: RefCell<dunlin_ws::Context>,
}

impl Decoding {
    pub(super) fn new(limits: &Limits) -> Self {
        let context = |message_bytes| {
            RefCell::new(dunlin_ws::Context::new(dunlin_ws::Limits {
                message_bytes,
                message_fragments: limits.message_fragments,
                inflate_ratio: limits.inflate_ratio,
            }))
        };
        let message_bytes = limits.message_bytes;
        Self {
            plain: context(message_bytes),
            centrifuge: context(message_bytes.saturating_mul(COMMANDS_BYTES)),
        }
    }

    pub(super) fn of(&self, client: &Client) -> RefMut<'_, dunlin_ws::Context> {
        match client {
            Client::Plain(_) => self.plain.borrow_mut(),
            Client::Centrifuge(_) => self.centrifuge.borrow_mut(),
        }
    }
}
