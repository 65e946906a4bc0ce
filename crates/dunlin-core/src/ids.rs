//! Names for the things that exist while a node runs.

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
