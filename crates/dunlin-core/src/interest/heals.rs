//! Gaps in streams that wait for somebody to ask the broker about them.

use std::{collections::VecDeque, mem};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{channel::ChannelName, stream::Gap};

/// Gaps to be healed, in the order in which they were found.
#[derive(Default)]
pub(super) struct Heals {
    queue: Mutex<VecDeque<(ChannelName, Gap)>>,
    filled: Notify,
    /// Those that failed.
    later: Mutex<Vec<(ChannelName, Gap)>>,
}

impl Heals {
    pub(super) fn push(&self, channel: &ChannelName, gap: Gap) {
        self.queue.lock().push_back((channel.clone(), gap));
        self.filled.notify_one();
    }

    pub(super) async fn next(&self) -> (ChannelName, Gap) {
        loop {
            let next = self.queue.lock().pop_front();
            match next {
                Some(next) => {
                    // There may be more, for others who wait.
                    self.filled.notify_one();
                    return next;
                }
                None => self.filled.notified().await,
            }
        }
    }

    /// Keeps a gap that could not be healed for a later try.
    pub(super) fn postpone(&self, channel: ChannelName, gap: Gap) {
        self.later.lock().push((channel, gap));
    }

    /// Lets the postponed be tried again.
    pub(super) fn resume(&self) {
        for (channel, gap) in mem::take(&mut *self.later.lock()) {
            self.push(&channel, gap);
        }
    }
}
