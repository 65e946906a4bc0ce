//! What is known of one Redis channel.

use dunlin_core::channel::ChannelName;

use crate::partition::Partition;

/// A channel of the table.
pub(super) struct Entry {
    /// Its name on this side; none if it is the lane's probe.
    pub(super) name: Option<ChannelName>,
    pub(super) batch: (u64, usize),
    pub(super) is_wanted: bool,
    pub(super) state: State,
    /// Which channels may share a command with it.
    pub(super) group: Partition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Absent,
    Subscribing,
    Standing,
    /// It is wanted and may stand, and is to be asked for.
    Doubted,
    /// It goes, whatever is wished in the meantime.
    Unsubscribing,
}

impl Entry {
    /// One that is wanted and absent.
    pub(super) fn new(name: Option<ChannelName>, group: Partition) -> Self {
        Self { name, batch: (0, 0), is_wanted: true, state: State::Absent, group }
    }
}
