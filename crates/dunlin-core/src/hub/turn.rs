//! A turn: everything drained from the inbox at once, gathered into one run per channel.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
    channel::ChannelName,
    hub::{ChannelId, Hub},
    publication::Publication,
};

/// The publications of one channel in one turn, in channel order: what each subscriber gets in one
/// write.
#[derive(Debug)]
pub struct Run {
    /// The channel they were published to.
    pub channel: ChannelId,
    /// The publications in order; never empty.
    pub publications: SmallVec<[Arc<Publication>; 2]>,
}

/// Gathers publications into runs.
#[derive(Debug, Default)]
pub struct Turn {
    number: u64,
    runs: Vec<Run>,
}

/// A channel's place in the turn with this number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunMark {
    turn: u64,
    run: u32,
}

impl Turn {
    /// Begins the next turn.
    pub fn begin(&mut self) {
        self.number += 1;
        self.runs.clear();
    }

    /// Gathers a publication into the run of its channel. It is dropped when the channel has no
    /// subscribers here: the last one left while it was under way.
    pub fn gather(&mut self, hub: &mut Hub, publication: Arc<Publication>) {
        let Some(&slot) = hub.by_name.get(publication.channel()) else { return };
        let channel = &mut hub.channels[slot as usize];
        if channel.run.turn != self.number {
            channel.run = RunMark { turn: self.number, run: super::index(self.runs.len()) };
            let id = ChannelId { slot, generation: channel.generation };
            self.runs.push(Run { channel: id, publications: SmallVec::new() });
        }
        self.runs[channel.run.run as usize].publications.push(publication);
    }

    /// Whether there is a run of this channel.
    #[must_use]
    pub fn has(&self, hub: &Hub, channel: &ChannelName) -> bool {
        let slot = hub.by_name.get(channel);
        slot.is_some_and(|slot| hub.channels[*slot as usize].run.turn == self.number)
    }

    /// Takes the runs there are, channels in the order of their first publication; what is gathered
    /// from now on forms new runs.
    pub fn take(&mut self) -> impl Iterator<Item = Run> {
        self.number += 1;
        self.runs.drain(..)
    }
}
