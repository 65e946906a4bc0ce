//! What one read brought, by channel and in each channel's order.

use std::sync::Arc;

use dunlin_core::{channel::ChannelName, interest::Interest, publication::Publication};

/// Its buffers are used again.
#[derive(Default)]
pub(super) struct Batches {
    batches: Vec<Batch>,
    used: usize,
    turn: u64,
}

struct Batch {
    channel: ChannelName,
    publications: Vec<Arc<Publication>>,
}

impl Batches {
    /// Appends to the batch that `noted` names if it is of this turn, else starts one and notes it.
    pub(super) fn gather(&mut self, noted: &mut (u64, usize), publication: Publication) {
        if self.used == 0 {
            self.turn += 1;
        }
        if noted.0 != self.turn {
            *noted = (self.turn, self.used);
            self.start(publication.channel());
        }
        self.batches[noted.1].publications.push(Arc::new(publication));
    }

    fn start(&mut self, channel: &ChannelName) {
        match self.batches.get_mut(self.used) {
            Some(batch) => batch.channel = channel.clone(),
            None => {
                self.batches.push(Batch { channel: channel.clone(), publications: Vec::new() });
            }
        }
        self.used += 1;
    }

    pub(super) fn deliver(&mut self, interest: &Interest) {
        for batch in &mut self.batches[..self.used] {
            interest.deliver(&batch.channel, &batch.publications);
            batch.publications.clear();
        }
        self.used = 0;
    }
}
