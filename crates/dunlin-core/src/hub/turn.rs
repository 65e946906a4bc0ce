//! A turn: everything drained from the inbox at once, gathered into one run per channel.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
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
    /// Gathers `publications` into runs, channels in the order of their first publication.
    /// Publications of channels without subscribers here are dropped: the last one left while they
    /// were under way.
    pub fn gather(
        &mut self,
        hub: &mut Hub,
        publications: impl IntoIterator<Item = Arc<Publication>>,
    ) -> &mut Vec<Run> {
        self.number += 1;
        self.runs.clear();
        for publication in publications {
            let Some(&slot) = hub.by_name.get(publication.channel()) else { continue };
            let channel = &mut hub.channels[slot as usize];
            if channel.run.turn != self.number {
                channel.run = RunMark { turn: self.number, run: super::index(self.runs.len()) };
                let id = ChannelId { slot, generation: channel.generation };
                self.runs.push(Run { channel: id, publications: SmallVec::new() });
            }
            self.runs[channel.run.run as usize].publications.push(publication);
        }
        &mut self.runs
    }
}
