//! Every bound in the system in one struct: each queue, table and wait that strangers can fill
//! names its field here.

use std::time::Duration;

/// The bounds of a node. The server builds it from its config; `default.toml` documents the
/// defaults.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest message of a client in bytes, after inflation.
    pub message_bytes: usize,
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
    /// Control frames a client may send per second in the long run.
    pub control_rate: u32,
    /// Control frames a client may send at once.
    pub control_burst: u32,
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

/// A token bucket in two words: `rate` tokens per second flow in, at most `burst` are kept.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    millitokens: u32,
    filled_ms: u32,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn full(burst: u32) -> Self {
        Self { millitokens: burst.saturating_mul(1000), filled_ms: 0 }
    }

    /// Takes a token at `now_ms` (any clock that starts near zero and does not run back); false
    /// when there is none.
    pub fn take(&mut self, now_ms: u32, rate: u32, burst: u32) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = now_ms;
        let filled = self.millitokens.saturating_add(elapsed_ms.saturating_mul(rate));
        self.millitokens = filled.min(burst.saturating_mul(1000));
        let has_token = self.millitokens >= 1000;
        if has_token {
            self.millitokens -= 1000;
        }
        has_token
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bounds for tests of other modules.
    pub(crate) fn small() -> Limits {
        Limits {
            message_bytes: 1024,
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
            control_rate: 10,
            control_burst: 30,
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::full(3);
        let taken = (0..10).filter(|_| bucket.take(0, 10, 3)).count();
        assert_eq!(taken, 3);
        let later = (0..10).filter(|_| bucket.take(200, 10, 3)).count();
        assert_eq!(later, 2);
        let much_later = (0..10).filter(|_| bucket.take(60_000, 10, 3)).count();
        assert_eq!(much_later, 3);
    }
}
