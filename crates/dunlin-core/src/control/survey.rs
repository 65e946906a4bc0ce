//! Surveys: a question to every node, and what each answers.

use serde::{Deserialize, Serialize};

use super::{Glob, MessageId, text};
use crate::channel::ChannelName;

/// What nodes can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// How they are.
    Node {},
    /// Which channels have subscribers, and how many.
    Channels {
        /// Of which names.
        #[serde(with = "text::glob")]
        pattern: Glob,
    },
    /// Which connections there are.
    Connections {
        /// Of whom; none = of everybody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<Box<str>>,
    },
    /// Which connections have most of something.
    Top {
        /// Of what.
        by: Measure,
        /// How many of them.
        limit: usize,
    },
}

/// What connections can be compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Time of their shard that what they sent has taken.
    #[default]
    Time,
    /// Bytes that wait until they read.
    Owed,
    /// Subscriptions.
    Channels,
}

/// A part of the answer of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question.
    #[serde(with = "text::message_id")]
    pub to: MessageId,
    /// Which part it is, counted from 0.
    pub number: u32,
    /// Whether it is the last one.
    pub is_last: bool,
    /// What it says.
    pub part: Part,
}

/// What a part of an answer says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// How the node is.
    Node(NodeReport),
    /// Some of its channels, with their subscribers.
    #[serde(with = "text::channels")]
    Channels(Vec<(ChannelName, usize)>),
    /// Some of its connections.
    Connections(Vec<ConnectionReport>),
    /// Those of its connections that have most of something.
    Top(Vec<TopReport>),
}

impl Part {
    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Node(_) => 1,
            Self::Channels(channels) => channels.len(),
            Self::Connections(connections) => connections.len(),
            Self::Top(connections) => connections.len(),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leaves out what is more than `len` entries, as far as there are several.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Self::Node(_) => {}
            Self::Channels(channels) => channels.truncate(len),
            Self::Connections(connections) => connections.truncate(len),
            Self::Top(connections) => connections.truncate(len),
        }
    }
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name, for people.
    pub name: String,
    /// The version it runs.
    pub version: String,
    /// Clients connected to it.
    pub clients: usize,
    /// Different users among them; those that are nobody in particular count as one.
    pub users: usize,
    /// Subscriptions of its clients.
    pub subscriptions: usize,
    /// Channels that it is subscribed to for them, or was a moment ago.
    pub channels: usize,
    /// Seconds since it started.
    pub uptime_s: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Its client id.
    pub client: Box<str>,
    /// Its user; empty = nobody in particular.
    pub user: Box<str>,
    /// How it is encoded what it reads and writes: `json` or `protobuf`.
    pub protocol: Box<str>,
    /// The channels it is subscribed to.
    #[serde(with = "text::channel_list")]
    pub channels: Vec<ChannelName>,
}

/// What one connection costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopReport {
    /// What the log calls it on its node.
    pub connection: Box<str>,
    /// Its client id; empty = it has none.
    pub client: Box<str>,
    /// Its user; empty = nobody in particular.
    pub user: Box<str>,
    /// Where it is; empty = unknown.
    pub address: Box<str>,
    /// What it speaks.
    pub dialect: Box<str>,
    /// For how many seconds it has been there.
    pub age_s: u64,
    /// Time of its shard that what it sent has taken, in microseconds.
    pub used_us: u32,
    /// Bytes that wait until it reads.
    pub owed_bytes: usize,
    /// How many channels it is subscribed to.
    pub channels: usize,
}

impl TopReport {
    /// How much it has of something.
    #[must_use]
    pub fn by(&self, measure: Measure) -> usize {
        match measure {
            Measure::Time => self.used_us as usize,
            Measure::Owed => self.owed_bytes,
            Measure::Channels => self.channels,
        }
    }
}
