//! Publishes that may not be sent yet, though others may.

use std::collections::{HashMap, VecDeque};

use dunlin_core::channel::ChannelName;
use foldhash::quality::RandomState;

use super::Waiting;

/// See the module's text.
#[derive(Default)]
pub(super) struct Held {
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) bytes: usize,
    /// What is published to their channels stays behind them.
    pub(super) channels: HashMap<ChannelName, usize, RandomState>,
}

impl Held {
    pub(super) fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes();
        *self.channels.entry(waiting.publish.publication.channel().clone()).or_default() += 1;
        self.waiting.push_back(waiting);
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.note_gone(&waiting);
        Some(waiting)
    }

    /// Takes out those, in their order.
    pub(super) fn extract(&mut self, is_it: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let extracted = super::state::extract(&mut self.waiting, is_it);
        extracted.iter().for_each(|waiting| self.note_gone(waiting));
        extracted
    }

    fn note_gone(&mut self, waiting: &Waiting) {
        self.bytes -= waiting.bytes();
        let channel = waiting.publish.publication.channel();
        if let Some(count) = self.channels.get_mut(channel) {
            *count -= 1;
            if *count == 0 {
                self.channels.remove(channel);
            }
        }
    }
}
