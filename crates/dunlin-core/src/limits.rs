//! Every bound in the system in one struct: each queue, table and wait that strangers can fill
//! names its field here.

mod bucket;
mod buckets;
mod deed;

use std::time::Duration;

pub use self::{
    bucket::{Rate, TokenBucket},
    buckets::{BUCKETS_MAX, Buckets},
    deed::{Deed, Deeds, Rates, Scope, SharedDeeds},
};

/// The bounds of a node. The server builds it from its config; `default.toml` documents the
/// defaults.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest message of a client in bytes, after inflation.
    pub message_bytes: usize,
    /// How many times longer than it came a compressed message may be, past its first 16 KiB.
    pub inflate_ratio: u32,
    /// Most fragments of one message, empty ones included.
    pub message_fragments: u32,
    /// Longest time from the first byte of a message to its last.
    pub message_age: Duration,
    /// Bytes a connection's socket may owe before it is closed as a slow reader.
    pub backlog_bytes: usize,
    /// Bytes that one shard keeps for single clients: answers that they have not read, and what
    /// they sent that is not whole or not handled yet.
    pub private_bytes: usize,
    /// Longest time a byte may wait in a backlog, while its client reads nothing to speak of.
    pub backlog_age: Duration,
    /// Most connections of this node.
    pub connections: usize,
    /// Publications that may wait in a shard's inbox before those who bring more must wait.
    pub inbox_publications: usize,
    /// Bytes that may wait in a shard's inbox before those who bring more must wait.
    pub inbox_bytes: usize,
    /// Bytes that streams remember for those who come back, all channels of the node together.
    pub ring_bytes: usize,
    /// Bytes that the memory broker keeps.
    pub history_bytes: usize,
    /// Control frames that a client may send.
    pub control_frames: Rate,
}

/// What [`Limits::ring_bytes`] is unless somebody says otherwise.
pub const RING_BYTES: usize = 256 << 20;

/// What [`Limits::history_bytes`] is unless somebody says otherwise.
pub const HISTORY_BYTES: usize = 256 << 20;

/// How long a channel without subscribers stays subscribed at the broker, so that churn costs the
/// broker nothing.
pub const LINGER: Duration = Duration::from_secs(5);

/// How long the stream of a channel may be without anything of what it misses, while the broker is
/// there, before its subscribers are told that it is lost.
pub const HEAL_PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for the broker's acknowledgement of a subscription.
pub const SUBSCRIBE_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bounds for tests of other modules.
    pub(crate) fn small() -> Limits {
        Limits {
            message_bytes: 1024,
            inflate_ratio: 100,
            message_fragments: 16,
            message_age: Duration::from_secs(1),
            backlog_bytes: 4096,
            private_bytes: 1 << 20,
            backlog_age: Duration::from_secs(1),
            connections: 100,
            inbox_publications: 1000,
            inbox_bytes: 1 << 20,
            ring_bytes: 1 << 20,
            history_bytes: 1 << 20,
            control_frames: Rate { per_second: 10, burst: 30 },
        }
    }
}
