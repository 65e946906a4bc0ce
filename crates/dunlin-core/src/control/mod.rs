//! Control: what a node is told by the application or by another node. Here is the vocabulary and
//! its text; who tells it and who obeys is elsewhere.
//!
//! Everything goes through the broker on channels of the nodes' own. Orders are kept for a while,
//! so that a node that was cut off obeys what it missed; questions, answers and signs of life are
//! not. A message of a kind that this version does not know is skipped: newer nodes may talk.

mod glob;
mod order;
mod seen;
mod survey;
mod text;

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    glob::{Glob, InvalidGlob},
    order::{Disconnect, Order, Refresh, Subscribe, Unsubscribe, Whom},
    seen::Seen,
    survey::{Answer, ConnectionReport, Measure, NodeReport, Part, Question, TopReport},
};
use crate::{channel::ChannelName, ids::NodeId, namespace::Retention};

/// Where orders to every node go.
#[must_use]
pub fn orders() -> ChannelName {
    ChannelName::control("all")
}

/// Where questions and signs of life go. Not where [`orders`] go: a channel that keeps what is
/// published is looked after when it is silent, and signs of life never are.
#[must_use]
pub fn nodes() -> ChannelName {
    ChannelName::control("nodes")
}

/// Where answers to the questions of `node` go.
#[must_use]
pub fn answers_to(node: NodeId) -> ChannelName {
    ChannelName::control(&format!("node.{node}"))
}

/// Where revocations are kept for nodes that start later.
#[must_use]
pub fn revoked() -> ChannelName {
    ChannelName::control("revoked")
}

/// What is kept of [`orders`].
pub const ORDERS_KEPT: Retention =
    Retention { size: 1000, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(60 * 60) };

/// What is kept of what is [`revoked`]: as many as can be in force at a time, for longer than
/// tokens live.
pub const REVOCATIONS_KEPT: Retention =
    Retention { size: 100_000, ttl: TEN_YEARS, meta_ttl: TEN_YEARS };

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Largest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// One message between nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Tells it from all others.
    pub id: MessageId,
    /// When it was written, in unix milliseconds by the writer's clock.
    pub sent_at_ms: u64,
    /// What it says.
    pub body: Body,
}

/// The name of a message: no other has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// Who wrote it.
    pub node: NodeId,
    /// How many the writer wrote before.
    pub number: u64,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// To be obeyed by every node.
    Order(Order),
    /// To be answered by every node.
    Question(Question),
    /// Of the node that the channel belongs to.
    Answer(Answer),
    /// So many parts of an answer have come: the node that the channel belongs to may go on.
    Received {
        /// The question.
        #[serde(with = "text::message_id")]
        to: MessageId,
        /// How many.
        count: u32,
    },
    /// The writer lives.
    Alive(Introduction),
    /// The writer leaves.
    Left {},
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its name, for people.
    pub name: String,
    /// The version it runs.
    pub version: String,
    /// How many revocations it knows; none while it does not know yet, or is older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<usize>,
    /// The number of the layout in which it keeps what nodes share; none if it is older than this.
    /// Nodes of different layouts share no history, no presence and no revocations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<u32>,
}

/// Why a text says nothing to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is none of ours, or more than [`MESSAGE_BYTES_MAX`].
    #[error("not a message between nodes")]
    Malformed,
    /// It is of a kind that this version does not know.
    #[error("a message of a kind that this version does not know")]
    UnknownKind,
}

impl Message {
    /// The message as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::write(self)
    }

    /// Reads a message. Total: any bytes give a message or the reason why not.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(text: &[u8]) -> Result<Self, Unreadable> {
        text::read(text)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.number)
    }
}

impl FromStr for MessageId {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let (node, number) = text.split_once('.').ok_or(Unreadable::Malformed)?;
        Ok(Self {
            node: node.parse().map_err(|_| Unreadable::Malformed)?,
            number: number.parse().map_err(|_| Unreadable::Malformed)?,
        })
    }
}

#[cfg(test)]
mod tests;
