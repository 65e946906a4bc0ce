//! What the node knows and wants of one channel.

use std::{mem, time::Instant};

use smallvec::SmallVec;
use tokio::sync::watch;

use crate::{error::BrokerLost, ids::ShardId, namespace::Retention, stream::Stream};

/// A channel in the table.
pub(super) struct Entry {
    pub(super) shards: SmallVec<[ShardId; 4]>,
    pub(super) knowledge: Knowledge,
    /// Where the node is in the channel; none when the channel keeps nothing.
    pub(super) stream: Option<Box<Stream>>,
    pub(super) number: u32,
    /// How often it was wanted.
    pub(super) wishes: u64,
    /// What of the stream is in the account of [`Rings`](super::rings::Rings).
    pub(super) ring_bytes: usize,
    /// Whether the ring is in the order in which rings are looked at.
    pub(super) is_in_order: bool,
    /// Whether somebody came back since the ring was last looked at.
    pub(super) was_resumed: bool,
    /// When the last subscriber left; none while there is one.
    pub(super) unwanted_since: Option<Instant>,
}

impl Entry {
    /// An entry with a number that clients are told, and one that no other ever had.
    pub(super) fn new(retention: Option<Retention>, number: u32, unique: u64) -> Self {
        Self {
            shards: SmallVec::new(),
            knowledge: Knowledge::Nothing,
            stream: retention.map(|retention| Box::new(Stream::new(retention, unique))),
            number,
            wishes: 0,
            ring_bytes: 0,
            is_in_order: false,
            was_resumed: false,
            unwanted_since: None,
        }
    }

    pub(super) fn want(&mut self, shard: ShardId) {
        self.unwanted_since = None;
        self.wishes += 1;
        if !self.shards.contains(&shard) {
            self.shards.push(shard);
        }
    }

    /// Everything stands: whoever waits may go on.
    pub(super) fn grant(&mut self) {
        if let Knowledge::Ordered(waiting) =
            mem::replace(&mut self.knowledge, Knowledge::Acknowledged)
        {
            waiting.send_replace(Some(Ok(())));
        }
    }

    /// Whoever comes now has to wait; who waits already goes on waiting.
    pub(super) fn hold(&mut self) -> PendingWish {
        if !matches!(self.knowledge, Knowledge::Ordered(_)) {
            self.knowledge = Knowledge::Ordered(watch::Sender::new(None));
        }
        match &self.knowledge {
            Knowledge::Ordered(answer) => PendingWish(answer.subscribe()),
            Knowledge::Nothing | Knowledge::Acknowledged => unreachable!("it was set just now"),
        }
    }
}

/// What the broker knows of our interest in a channel.
pub(super) enum Knowledge {
    /// Not ordered yet, or refused: the next wish orders.
    Nothing,
    /// Ordered, not acknowledged; those who wait for it hold the other end.
    Ordered(watch::Sender<Answer>),
    /// Acknowledged: what is published from now on arrives.
    Acknowledged,
}

/// The answer to a wish for a channel.
#[must_use]
pub enum Wish {
    /// The broker knows: the subscription stands.
    Granted,
    /// The broker was asked and will answer.
    Pending(PendingWish),
}

/// A wish that the broker has not answered yet.
pub struct PendingWish(watch::Receiver<Answer>);

/// Nothing yet, or whether the subscription stands.
pub(super) type Answer = Option<Result<(), BrokerLost>>;

impl PendingWish {
    /// Waits for the broker's answer. Cancel-safe.
    ///
    /// # Errors
    /// [`BrokerLost`] when the broker went away first, or refused.
    pub async fn granted(mut self) -> Result<(), BrokerLost> {
        match self.0.wait_for(Option::is_some).await {
            Ok(answer) => answer.unwrap_or(Err(BrokerLost)),
            Err(_forgotten) => Err(BrokerLost),
        }
    }
}
