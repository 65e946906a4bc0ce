//! What the broker knows of this node's interest, as it tells.

use std::mem;

use tokio::sync::watch;

use super::{Interest, entry::Knowledge};
use crate::{channel::ChannelName, error::BrokerLost, stream::Turn};

impl Interest {
    /// The broker knows our interest in `channel` from now on. A stream is healed first: what was
    /// published before may be missing.
    pub fn acknowledge(&self, channel: &ChannelName) {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        match entry.stream {
            Some(_) => self.heal(channel, entry),
            None => entry.grant(),
        }
    }

    /// The broker does not let us have `channel`: whoever waits is told, and the next wish asks
    /// again. Subscribers from before a loss would hear nothing any more, and are told too.
    pub fn refuse(&self, channel: &ChannelName) {
        let mut partition = self.partition(channel).lock();
        let Some(entry) = partition.entries.get_mut(channel) else { return };
        self.push_turn(&entry.shards, channel, Turn::Refused);
        if let Knowledge::Ordered(waiting) = mem::replace(&mut entry.knowledge, Knowledge::Nothing)
        {
            waiting.send_replace(Some(Err(BrokerLost)));
        }
    }

    /// The broker has forgotten us in these channels: nothing is acknowledged there any more, and
    /// whoever waits is told.
    pub fn lose(&self, is_lost: &dyn Fn(&ChannelName) -> bool) {
        self.unsettle(is_lost, |knowledge| {
            if let Knowledge::Ordered(answer) = knowledge {
                answer.send_replace(Some(Err(BrokerLost)));
            }
            *knowledge = Knowledge::Ordered(watch::Sender::new(None));
        });
    }

    /// The broker knows us in these channels in another way from now on, and will acknowledge them
    /// anew. Whoever waits goes on waiting.
    pub fn start_over(&self, is_concerned: &dyn Fn(&ChannelName) -> bool) {
        self.unsettle(is_concerned, |knowledge| {
            if !matches!(knowledge, Knowledge::Ordered(_)) {
                *knowledge = Knowledge::Ordered(watch::Sender::new(None));
            }
        });
    }

    fn unsettle(
        &self,
        is_concerned: &dyn Fn(&ChannelName) -> bool,
        forget: impl Fn(&mut Knowledge),
    ) {
        for partition in &self.partitions {
            let mut partition = partition.lock();
            let entries = partition.entries.iter_mut();
            for (_, entry) in entries.filter(|(channel, _)| is_concerned(channel)) {
                forget(&mut entry.knowledge);
                if let Some(stream) = &mut entry.stream {
                    stream.pause();
                }
                // Histories may be removed while nobody can tell us.
                self.forget_ring(entry);
            }
        }
    }
}
