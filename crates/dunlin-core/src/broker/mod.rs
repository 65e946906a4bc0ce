//! The broker: what carries publications between nodes and keeps their history. The contract every
//! implementation keeps:
//!
//! 1. A publish returns at once; work happens behind it. Answers come through [`Interest`] and
//!    [`ReplyTo`].
//! 2. A subscription stands once it is acknowledged; whatever anyone publishes after that is
//!    delivered.
//! 3. Within a channel, every node's [`Interest::deliver`] sees the same order; publishes of one
//!    caller keep theirs.
//! 4. Every [`ReplyTo`] is answered exactly once: the publish happened, did not, or is
//!    [`Unknown`](crate::error::PublishError::Unknown). With a [`Retention`] what is unknown is
//!    asked about before it is repeated, so that it appears once.
//! 5. A publication comes back through `deliver` or not at all: never a local-only delivery.
//! 6. Lost means: `outages` says so, [`Interest::lose`] is called for channels whose subscription
//!    is gone, publishes wait within a bound and are then refused.
//! 7. A publication with a [`Retention`] gets the next offset, is kept and delivered as one step.
//!    What is answered as published is in the history of whoever asks later, until it is over its
//!    size or time.
//! 8. [`Broker::recover`] says [`Recovery::Page`] only if nothing between the position and `top` is
//!    missing, and whoever has the position has what this broker has up to there. An epoch whose
//!    past is lost never comes back.
//! 9. A publication with a position or details holds no buffer that others share, unless it fills
//!    most of it.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod memory;

use std::{future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;
use tokio::sync::oneshot;

pub use crate::history::{History, HistoryQuery, PageBounds, Recovery, Since};
use crate::{
    channel::ChannelName,
    error::{BrokerLost, HistoryError, PublishOutcome},
    ids::ConnectionId,
    interest::{Acknowledgement, Interest},
    namespace::Retention,
    position::Position,
    publication::Publication,
};

/// A part of the broker that carries nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Which part: the address of its server.
    pub part: Arc<str>,
    /// What is wrong with it, as the end of a sentence that the address begins.
    pub reason: Arc<str>,
}

/// What carries publications between nodes. See the module's text for the contract.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Orders delivery of `channel` to this node. Idempotent.
    fn subscribe(&self, channel: &ChannelName) -> Acknowledgement;

    /// Ends delivery of `channel` to this node. Idempotent, never answered.
    fn unsubscribe(&self, channel: &ChannelName);

    /// Publishes all of them in their order and leaves the vector empty; each reply learns its
    /// outcome. What is brought together stays together on its way. Returns what to wait for before
    /// more is published, lest it pile up.
    fn publish(&self, publishes: &mut Vec<(Publish, ReplyTo)>) -> Option<Room>;

    /// What keeps `channel` from being joined, or the broker from carrying all that is published in
    /// any channel; none = it is ready. Cheap while it is.
    fn outages(&self, channel: Option<&ChannelName>) -> Vec<Outage>;

    /// A part of what is kept of `channel`, a page of it where there is more, and its newest
    /// position. A channel that was never published to has a position too: before its first
    /// publication.
    ///
    /// # Errors
    /// [`HistoryError`].
    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, HistoryError>;

    /// Where channels are, in their order; none = it cannot be told now. Asking keeps nothing of
    /// channels that nothing was ever published to.
    async fn positions(&self, channels: &[(ChannelName, Retention)]) -> Vec<Option<Position>>;

    /// A page of the publications behind `since`, at least one if there is any; or only the
    /// position when they are not all there.
    ///
    /// # Errors
    /// [`BrokerLost`].
    async fn recover(
        &self,
        channel: &ChannelName,
        since: Position,
        bounds: PageBounds,
        retention: Retention,
    ) -> Result<Recovery, BrokerLost>;

    /// Forgets all publications of `channel`. Its position stays: nobody's offset comes again.
    ///
    /// # Errors
    /// [`BrokerLost`] when it may not have happened.
    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BrokerLost>;
}

/// Resolves when more may be published. Cancel-safe.
pub type Room = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A publication on its way to the broker.
#[derive(Debug)]
pub struct Publish {
    /// What is published. It has no position yet.
    pub publication: Publication,
    /// What is kept of it; none = it is delivered to whoever is there and forgotten.
    pub retention: Option<Retention>,
    /// Under which terms; none = under any.
    pub terms: Option<Box<Terms>>,
}

/// When a publish does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// A second publish to the channel with this key within five minutes is answered like the first
    /// and does nothing; empty = none. Counts with and without a retention.
    pub idempotency_key: String,
    /// A publish whose version is not above that of an earlier one does nothing, and is answered
    /// with the channel's position; 0 = none. Counts with a retention only.
    pub version: u64,
    /// Versions of another epoch than the last one's start anew.
    pub version_epoch: String,
}

impl From<Publication> for Publish {
    /// To be delivered and forgotten.
    fn from(publication: Publication) -> Self {
        Self { publication, retention: None, terms: None }
    }
}

/// Who learns how a publish ended.
#[derive(Debug)]
#[must_use = "every publish is answered"]
pub enum ReplyTo {
    /// A connection of this node, told through its shard's inbox, and of failures only.
    Connection(ConnectionId),
    /// A command of a connection of this node, told through its shard's inbox.
    Command(ConnectionId, u32),
    /// A caller that waits.
    Caller(oneshot::Sender<PublishOutcome>),
    /// Nobody.
    Nobody,
}

impl ReplyTo {
    /// Answers.
    pub fn answer(self, interest: &Interest, outcome: PublishOutcome) {
        match (self, outcome) {
            (Self::Connection(_), Ok(_)) | (Self::Nobody, _) => {}
            (Self::Connection(connection), Err(error)) => {
                interest.publish_failed(connection, error);
            }
            (Self::Command(connection, id), outcome) => {
                interest.publish_answered(connection, id, outcome);
            }
            (Self::Caller(caller), outcome) => {
                // A caller that went away no longer wants to know.
                let _ = caller.send(outcome);
            }
        }
    }
}

/// A broker that everyone on the node shares.
pub type SharedBroker = Arc<dyn Broker>;
