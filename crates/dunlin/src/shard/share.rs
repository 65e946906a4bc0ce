//! A connection's share of its shard: what one client causes must not hold up the others.
//!
//! Two bounds do that. A *slice* is how long a connection may keep the shard to itself; what of its
//! bytes is left then waits until the others had their turn. A *share* is what it may use in the
//! long run; who has used it up is served behind all others, one such connection at a time. On a
//! shard with nothing else to do that costs nobody anything.

use std::time::Duration;

use tokio::time::Instant;

/// How long a connection may keep the shard to itself: about what a fan-out may.
const SLICE: Duration = Duration::from_micros(500);

/// Microseconds of the shard's time that flow in per millisecond: a tenth of it.
const INFLOW_US: u32 = 100;

/// How much of its share a connection may use at once.
const BURST_US: u32 = 5_000;

/// Debts beyond that are forgiven, so that nobody waits for long for what is over.
const DEBT_MAX_US: u32 = 50_000;

/// About what the delivery of a publication to one more subscriber takes, in nanoseconds. Whoever
/// publishes pays for it.
const DELIVERY_NS: u64 = 250;

/// About what it takes to read a little: the clock is not asked for it.
const LITTLE: Duration = Duration::from_micros(4);

/// Bytes that are little, one message or two.
const LITTLE_BYTES: usize = 512;

/// What a connection has used of its share.
#[derive(Debug, Default)]
pub(crate) struct Share {
    used_us: u32,
    at_ms: u32,
}

impl Share {
    /// Whether the connection has to wait behind the others. The clock is for those alone who are
    /// near it.
    pub(crate) fn is_used_up(&mut self, now_ms: impl FnOnce() -> u32) -> bool {
        if self.used_us <= BURST_US {
            return false;
        }
        let now_ms = now_ms();
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        self.used_us = self.used_us.saturating_sub(elapsed_ms.saturating_mul(INFLOW_US));
        self.at_ms = now_ms;
        self.used_us > BURST_US
    }

    /// Pays for a slice.
    pub(crate) fn charge(&mut self, slice: &Slice) {
        let used_us = u32::try_from(slice.used().as_micros()).unwrap_or(u32::MAX);
        self.used_us = self.used_us.saturating_add(used_us).min(DEBT_MAX_US);
    }
}

/// One turn of a connection.
#[derive(Debug)]
pub(crate) struct Slice {
    /// Absent while it is about little.
    began_at: Option<Instant>,
    deliveries: u64,
}

impl Slice {
    /// A turn that is about so many bytes.
    pub(crate) fn begin(bytes: usize) -> Self {
        let began_at = (bytes > LITTLE_BYTES).then(Instant::now);
        Self { began_at, deliveries: 0 }
    }

    /// Something was published to so many subscribers.
    pub(crate) fn published(&mut self, subscribers: u64) {
        self.deliveries += subscribers;
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        match self.began_at {
            Some(_) => self.used() >= SLICE,
            None => self.deliveries * DELIVERY_NS >= SLICE.as_nanos() as u64,
        }
    }

    fn used(&self) -> Duration {
        let read = self.began_at.map_or(LITTLE, |began_at| began_at.elapsed());
        read + Duration::from_nanos(self.deliveries * DELIVERY_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice that has used so many microseconds, all of them for deliveries.
    fn slice(used_us: u64) -> Slice {
        Slice { began_at: None, deliveries: used_us * 1_000 / DELIVERY_NS }
    }

    #[test]
    fn a_share_is_a_burst_and_then_a_tenth_of_the_time() {
        let mut share = Share::default();
        share.charge(&slice(4_900));
        assert!(!share.is_used_up(|| 0));
        share.charge(&slice(1_000));
        assert!(share.is_used_up(|| 8));
        assert!(!share.is_used_up(|| 10));
        share.charge(&slice(10_000_000));
        assert!(share.is_used_up(|| 400));
        assert!(!share.is_used_up(|| 500), "what is over is forgiven");
    }

    #[test]
    fn little_adds_up() {
        let mut share = Share::default();
        let little = Slice { began_at: None, deliveries: 0 };
        (0..5_000).for_each(|_| share.charge(&little));
        assert!(share.is_used_up(|| 0));
    }

    #[test]
    fn a_publication_to_many_is_a_slice() {
        let mut slice = Slice::begin(10);
        slice.published(1_900);
        assert!(!slice.is_over());
        slice.published(100);
        assert!(slice.is_over());
    }
}
