//! The broker: what carries publications between nodes. The contract every implementation keeps:
//!
//! 1. All calls return at once; work happens behind them. Answers come through [`Interest`] and
//!    [`ReplyTo`].
//! 2. A subscription stands once it is acknowledged; whatever anyone publishes after that is
//!    delivered.
//! 3. Within a channel, every node's [`Interest::deliver`] sees the same order; publishes of one
//!    caller keep theirs.
//! 4. Every [`ReplyTo`] is answered exactly once: the publish happened, did not, or is
//!    [`PublishError::Unknown`].
//! 5. A publication comes back through `deliver` or not at all: never a local-only delivery.
//! 6. Lost means: [`Interest::lose`] was called, `status` says so, publishes wait within a bound
//!    and are then refused.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub mod memory;

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    channel::ChannelName,
    error::PublishError,
    ids::ConnectionId,
    interest::{Acknowledgement, Interest},
    publication::Publication,
};

/// Whether the broker can carry publications now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerStatus {
    /// It can.
    Ready,
    /// It is away; the node waits for its return.
    Lost,
}

/// What carries publications between nodes. See the module's text for the contract.
pub trait Broker: Send + Sync {
    /// Orders delivery of `channel` to this node. Idempotent.
    fn subscribe(&self, channel: &ChannelName) -> Acknowledgement;

    /// Ends delivery of `channel` to this node. Idempotent, never answered.
    fn unsubscribe(&self, channel: &ChannelName);

    /// Publishes; `reply` learns the outcome. Await [`Broker::room`] first when
    /// [`Broker::has_room`] says no.
    fn publish(&self, publication: Publication, reply: ReplyTo);

    /// Publishes all of them in their order and leaves the vector empty; `publisher` learns of
    /// those that failed. What a client sent together stays together on its way.
    fn publish_all(&self, publications: &mut Vec<Publication>, publisher: ConnectionId);

    /// Whether more may be published now without piling up.
    fn has_room(&self) -> bool;

    /// Waits until more may be published. Cancel-safe; allocates, so ask [`Broker::has_room`]
    /// first.
    fn room(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Whether the broker can carry publications now; cheap.
    fn status(&self) -> BrokerStatus;
}

/// Who learns how a publish ended.
#[derive(Debug)]
#[must_use = "every publish is answered"]
pub enum ReplyTo {
    /// A connection of this node, told through its shard's inbox, and of failures only.
    Connection(ConnectionId),
    /// A caller that waits.
    Caller(oneshot::Sender<Result<(), PublishError>>),
}

impl ReplyTo {
    /// Answers.
    pub fn answer(self, interest: &Interest, outcome: Result<(), PublishError>) {
        match (self, outcome) {
            (Self::Connection(_), Ok(())) => {}
            (Self::Connection(connection), Err(error)) => {
                interest.publish_failed(connection, error)
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
