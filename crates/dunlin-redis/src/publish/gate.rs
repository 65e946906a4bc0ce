//! The gate: what may be published now. What is kept may as soon as the server has proved on this
//! connection that it takes publishes: whoever misses it reads it later. What is not kept has to
//! wait until this lane carries it to this node, and to the other nodes that lost Redis with it.

use std::sync::Arc;

use dunlin_core::broker::Publish;
use tokio::sync::watch;

use crate::{lane::health::Health, subscribe::SubscribeLinks};

/// See the module's text.
pub(super) struct Gate {
    links: Arc<SubscribeLinks>,
    verdict: watch::Receiver<Option<Arc<str>>>,
    /// Whether this connection has brought an answer to a probe.
    is_proved: bool,
    /// Whether the lane was ready at the last look.
    is_open: bool,
    /// Whether a channel stands that did not at the last look.
    has_more: bool,
}

impl Gate {
    pub(super) fn new(health: &Health, links: Arc<SubscribeLinks>) -> Self {
        let verdict = health.watch();
        Self { links, verdict, is_proved: false, is_open: false, has_more: false }
    }

    /// The links that hear what is published.
    pub(super) fn links(&self) -> &SubscribeLinks {
        &self.links
    }

    /// Begins with a connection that has proved nothing.
    pub(super) fn meet(&mut self) {
        (self.is_proved, self.is_open) = (false, false);
    }

    pub(super) fn prove(&mut self) {
        self.is_proved = true;
    }

    pub(super) fn is_proved(&self) -> bool {
        self.is_proved
    }

    /// Looks how the lane is. True when publishes may pass now that could not before.
    pub(super) fn look(&mut self) -> bool {
        let is_ready = self.verdict.borrow_and_update().is_none() && self.is_proved;
        let was_open = std::mem::replace(&mut self.is_open, is_ready);
        is_ready && (!was_open || std::mem::take(&mut self.has_more))
    }

    /// Whether this may be published now.
    pub(super) fn admits(&self, publish: &Publish) -> bool {
        publish.retention.is_some()
            || (self.is_open && self.links.stands(publish.publication.channel()))
    }

    /// Waits until it may be time to look again. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            // The health is told of by a lane that lives as long as this.
            _ = self.verdict.changed() => {}
            () = self.links.stood() => self.has_more = true,
        }
    }
}
