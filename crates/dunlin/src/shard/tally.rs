//! The tally: what a shard counts in plain integers and adds to the metrics once per turn.

use std::cell::Cell;

use dunlin_core::metrics::Metrics;

/// Counts since the last [`Tally::flush`].
pub(crate) struct Tally {
    metrics: Metrics,
    publications_in: Cell<u64>,
    deliveries: Cell<u64>,
    received_bytes: Cell<u64>,
    sent_bytes: Cell<u64>,
    backlog_bytes: Cell<i64>,
    private_bytes: Cell<i64>,
}

impl Tally {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            publications_in: Cell::new(0),
            deliveries: Cell::new(0),
            received_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
            backlog_bytes: Cell::new(0),
            private_bytes: Cell::new(0),
        }
    }

    pub(crate) fn published(&self, publications: usize) {
        self.publications_in.set(self.publications_in.get() + publications as u64);
    }

    pub(super) fn delivered(&self, publications: usize) {
        self.deliveries.set(self.deliveries.get() + publications as u64);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.set(self.received_bytes.get() + bytes as u64);
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.sent_bytes.set(self.sent_bytes.get() + bytes as u64);
    }

    pub(crate) fn queued(&self, bytes: usize) {
        self.backlog_bytes.set(self.backlog_bytes.get() + bytes as i64);
    }

    pub(crate) fn wrote_from_backlog(&self, bytes: usize) {
        self.wrote(bytes);
        self.dropped(bytes);
    }

    /// Bytes left a backlog without being written.
    pub(crate) fn dropped(&self, bytes: usize) {
        self.backlog_bytes.set(self.backlog_bytes.get() - bytes as i64);
    }

    /// What is kept for one client was `before` bytes and is `after` now.
    pub(super) fn kept(&self, before: usize, after: usize) {
        self.private_bytes.set(self.private_bytes.get() + after as i64 - before as i64);
    }

    /// Adds everything to the metrics.
    pub(super) fn flush(&self) {
        self.metrics.publications_in.inc_by(self.publications_in.take());
        self.metrics.deliveries.inc_by(self.deliveries.take());
        self.metrics.received_bytes.inc_by(self.received_bytes.take());
        self.metrics.sent_bytes.inc_by(self.sent_bytes.take());
        self.metrics.backlog_bytes.inc_by(self.backlog_bytes.take());
        self.metrics.private_bytes.inc_by(self.private_bytes.take());
    }
}
