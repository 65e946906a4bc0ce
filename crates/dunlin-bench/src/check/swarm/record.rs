//! What a swarm writes down for an examination afterwards.

use std::sync::{Arc, atomic::Ordering};

use super::Swarm;
use crate::{
    check::{
        client::Link,
        journal::{Journal, Signals},
        judge::Message,
    },
    clock,
    payload::Stamp,
};

pub(super) struct Recording {
    pub(super) journal: Journal,
    pub(super) signals: Arc<Signals>,
}

impl Recording {
    /// Notes a publication; says how long it is to be.
    pub(super) fn sent(&mut self, publisher: usize, at: u64) -> usize {
        self.journal.sent(publisher, at);
        self.signals.payload_bytes.load(Ordering::Relaxed).max(Stamp::BYTES)
    }
}

impl Swarm {
    /// Writes down from now on what publishers and readers see, and tells `signals`. To be called
    /// before anything happens.
    pub(crate) fn record(&mut self, signals: Arc<Signals>) {
        let steady = (0..self.clients.len()).map(|client| client < self.steady);
        let publishers = self.judge.publisher_channels().zip(steady.clone());
        let steady = steady.flat_map(|steady| std::iter::repeat_n(steady, self.subscriptions));
        let journal = Journal::new(self.judge.reader_channels().zip(steady), publishers);
        self.recording = Some(Recording { journal, signals });
    }

    /// What was written down.
    pub(crate) fn into_journal(mut self) -> Option<Journal> {
        let mut recording = self.recording.take()?;
        for (number, client) in self.clients.iter().enumerate() {
            let ready = matches!(&client.link, Link::Open(session) if session.is_ready());
            let first = number * self.subscriptions;
            for reader in &mut recording.journal.readers[first..first + self.subscriptions] {
                reader.subscribed = ready;
            }
        }
        Some(recording.journal)
    }

    /// The end of a connection that the client did not want.
    pub(super) fn lose(&mut self, number: usize) {
        let link = self.leave(number);
        let Some(recording) = &mut self.recording else { return };
        let now = clock::now();
        if let Link::Open(session) = link {
            for sequence in session.pending() {
                recording.journal.answered(Message { publisher: number, sequence }, now, false);
            }
        }
        if number < self.steady {
            recording.signals.troubled();
        }
    }

    pub(super) fn note_answer(&mut self, publisher: usize, sequence: u32, acknowledged: bool) {
        let Some(Recording { journal, signals }) = &mut self.recording else { return };
        journal.answered(Message { publisher, sequence }, clock::now(), acknowledged);
        if !acknowledged && publisher < self.steady {
            signals.troubled();
        }
    }
}
