//! Partitions on their way from one lane to another. What waits for the old lane goes before all
//! that comes to the new one, and nothing of it is sent there until the old lane has an answer to
//! all that it sent: so each channel keeps its order.

use std::sync::Arc;

use dunlin_core::channel::ChannelName;

use super::{Phase, Queue, Waiting};
use crate::partition::Partition;

/// See the module's text. Mostly empty.
#[derive(Default)]
pub(super) struct Transit {
    pub(super) leaving: Vec<(Partition, Arc<Queue>)>,
    pub(super) arriving: Vec<Partition>,
}

impl Transit {
    pub(super) fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.arriving.is_empty()
    }

    /// Whether a partition is on its way from or to here.
    pub(super) fn has(&self, partition: Partition) -> bool {
        self.arriving.contains(&partition)
            || self.leaving.iter().any(|(leaving, _)| *leaving == partition)
    }

    /// Whether nothing of a channel may be sent from here now.
    pub(super) fn holds(&self, channel: &ChannelName) -> bool {
        !self.is_empty() && self.has(Partition::of(channel))
    }

    /// The partitions that may be handed over, and to whom.
    pub(super) fn take_ready(
        &mut self,
        is_unanswered: impl Fn(Partition) -> bool,
    ) -> Vec<(Partition, Arc<Queue>)> {
        self.leaving.extract_if(.., |(partition, _)| !is_unanswered(*partition)).collect()
    }
}

impl Queue {
    /// A partition goes to another lane. False if it is on its way already.
    pub(crate) fn leave(&self, partition: Partition, to: &Arc<Self>) -> bool {
        if self.state.lock().transit.has(partition) {
            return false;
        }
        // In this order: it may be handed over as soon as it is known to leave.
        to.state.lock().transit.arriving.push(partition);
        self.state.lock().transit.leaving.push((partition, Arc::clone(to)));
        self.left.notify_one();
        true
    }

    /// Whether something is still to be handed over.
    pub(crate) fn is_leaving(&self) -> bool {
        !self.state.lock().transit.leaving.is_empty()
    }

    /// Waits until a partition is to be handed over. For the link only. Cancel-safe.
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }

    /// Hands what waits of the partitions that leave to the lanes that have them now, but for those
    /// of which something is unanswered.
    pub(crate) fn hand_over(&self, is_unanswered: impl Fn(Partition) -> bool) {
        let mut parcels = Vec::new();
        {
            let mut state = self.state.lock();
            if state.transit.leaving.is_empty() {
                return;
            }
            for (partition, to) in state.transit.take_ready(is_unanswered) {
                parcels.push((partition, to, state.extract(partition)));
            }
            self.note_crowd(&state);
        }
        for (partition, to, parcel) in parcels {
            to.arrive(partition, parcel);
        }
    }

    fn arrive(&self, partition: Partition, parcel: Vec<Waiting>) {
        let mut refused = Vec::new();
        {
            let mut state = self.state.lock();
            state.transit.arriving.retain(|arriving| *arriving != partition);
            if state.phase == Phase::Closed {
                refused = parcel;
            } else {
                state.put_back(parcel.into_iter());
            }
        }
        self.release();
        for waiting in refused {
            self.refuse(waiting);
        }
    }
}
