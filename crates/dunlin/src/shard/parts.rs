//! What a shard is made of.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    ids::ShardId,
    inbox::Inbox,
    limits::Limits,
    metrics::{Ledger, Metrics},
    node::Node,
};

use super::{Pressure, UserCounts};
use crate::{
    config::PlainCloseCodes, connection::Closes, memory::Memory, metering::Paces, session::Policy,
};

/// What a shard is made of; everything in it can cross to the shard's thread.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) id: ShardId,
    /// How many shards the node has.
    pub(crate) shard_count: usize,
    pub(crate) node: Arc<Node>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Limits,
    /// Time between pings of a connection; zero = none.
    pub(crate) ping_interval: Duration,
    /// Longest time from a ping to a sign of life.
    pub(crate) pong_timeout: Duration,
    /// Longest time a seat waits for its socket.
    pub(crate) seat_age: Duration,
    /// What the operator decided about clients of the Centrifuge dialect.
    pub(crate) policy: Arc<Policy>,
    /// How many connections users have on the whole node.
    pub(crate) user_counts: Arc<UserCounts>,
    /// How much is published in channels that have a bound.
    pub(crate) paces: Arc<Paces>,
    /// Where publishers have to be slowed down.
    pub(crate) pressure: Pressure,
    /// How full the node's memory is.
    pub(crate) memory: Arc<Memory>,
    /// How many closes of a kind the log has had of late.
    pub(crate) closes: Arc<Closes>,
    /// By which codes clients of the plain dialect are told why they are closed.
    pub(crate) plain_close_codes: PlainCloseCodes,
}
