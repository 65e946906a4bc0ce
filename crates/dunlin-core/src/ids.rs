//! Names for the things that exist while a node runs.

use std::{fmt, str::FromStr};

/// A running node; drawn at random at its start, so that one that starts anew is another one.
///
/// Its text is 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

/// The text names no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node's id is 16 hexadecimal digits")]
pub struct InvalidNodeId;

impl NodeId {
    /// The node of this number.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = (text.len() == 16 && is_hex).then(|| u64::from_str_radix(text, 16).ok());
        number.flatten().map(Self).ok_or(InvalidNodeId)
    }
}

/// A shard of this node: its place in the node's list of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardId(u16);

impl ShardId {
    /// The most shards a node can have.
    pub const MAX: usize = 256;

    /// The shard at `place`, counted from zero.
    ///
    /// # Panics
    /// When `place` is not below [`ShardId::MAX`]; the config is checked against it at start.
    #[must_use]
    pub fn new(place: usize) -> Self {
        assert!(place < Self::MAX, "a node has at most {} shards", Self::MAX);
        Self(u16::try_from(place).expect("MAX fits into u16"))
    }

    /// The shard's place in the node's list of shards.
    #[must_use]
    pub fn place(self) -> usize {
        usize::from(self.0)
    }
}

/// A connection of this node for as long as it lives; a later connection in the same slot has
/// another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The shard that owns the connection.
    pub shard: ShardId,
    /// The connection's slot in that shard.
    pub slot: u32,
    /// Tells apart the connections that used the slot one after another.
    pub generation: u32,
}

/// `shard-slot-generation`, for people who look for all that a log says of one.
impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, slot, generation } = self;
        write!(f, "{}-{slot}-{generation}", shard.place())
    }
}
