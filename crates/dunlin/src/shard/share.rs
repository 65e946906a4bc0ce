//! A connection's share of its shard: what one client causes must not hold up the others.
//!
//! Two bounds do that. A *slice* is how long a connection may keep the shard to itself; what of its
//! bytes is left then waits until the others had their turn. A *share* is what it may use in the
//! long run; who has used it up is served behind all others: of each round of the shard, all of
//! them together get one slice, in turns. On a shard with nothing else to do that costs nobody
//! anything.

use std::{cell::Cell, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
    time::Instant,
};

/// How long a connection may keep the shard to itself: about what a fan-out may.
const SLICE: Duration = Duration::from_micros(500);

/// Microseconds of the shard's time that flow in per millisecond: a five-hundredth, which is some
/// five hundred publishes a second.
const INFLOW_US: u32 = 2;

/// How much of its share a connection may use at once.
const BURST_US: u32 = 1_000;

/// Debts beyond that are forgiven, so that nobody waits for long for what is over.
const DEBT_MAX_US: u32 = 2_000;

/// About what the delivery of a publication to one more subscriber takes, in nanoseconds. Whoever
/// publishes pays for it.
const DELIVERY_NS: u64 = 250;

/// A publication is as dear as one more for so many bytes of it, each time that it is copied ...
const COPIED_BYTES: usize = 1024;

/// ... and once, where it is deflated.
const DEFLATED_BYTES: usize = 16;

/// What a publication leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Consequences {
    /// Deliveries. Those of many publications together take less time than each by itself, so they
    /// end no slice, but where somebody is behind.
    deliveries: u64,
    /// As dear as so many: what does not become less by being done together.
    bytes: u64,
}

impl Consequences {
    pub(crate) fn new(subscribers: usize, bytes: usize, is_deflated: bool) -> Self {
        let deflation = if is_deflated { bytes / DEFLATED_BYTES } else { 0 };
        let copies = subscribers * (bytes / COPIED_BYTES);
        Self { deliveries: subscribers as u64, bytes: (copies + deflation) as u64 }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        let deliveries = self.deliveries + other.deliveries;
        Self { deliveries, bytes: self.bytes + other.bytes }
    }
}

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
    pub(crate) fn is_used_up(&mut self, now_ms: impl FnOnce() -> u64) -> bool {
        if self.used_us <= BURST_US {
            return false;
        }
        // It wraps after seven weeks, which costs little once.
        let now_ms = now_ms() as u32;
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        self.used_us = self.used_us.saturating_sub(elapsed_ms.saturating_mul(INFLOW_US));
        self.at_ms = now_ms;
        self.used_us > BURST_US
    }

    /// Pays for a slice that took so long.
    pub(crate) fn charge(&mut self, used: Duration) {
        let used_us = u32::try_from(used.as_micros()).unwrap_or(u32::MAX);
        self.used_us = self.used_us.saturating_add(used_us).min(DEBT_MAX_US);
    }
}

/// One turn of a connection.
#[derive(Debug)]
pub(crate) struct Slice {
    /// Absent while it is about little.
    began_at: Option<Instant>,
    published: Consequences,
    /// About how much was done since the last look at the clock.
    bytes: usize,
    /// Messages that were taken, and how many may be.
    messages: u32,
    messages_max: u32,
}

/// Bytes between two looks at the clock; a step counts as at least a few of them.
const LOOK_BYTES: usize = 1024;
const STEP_BYTES: usize = 128;

impl Slice {
    /// A turn that is about so many bytes, and so many messages at most.
    pub(crate) fn begin(bytes: usize, messages_max: u32) -> Self {
        let began_at = (bytes > LITTLE_BYTES).then(Instant::now);
        let published = Consequences::default();
        Self { began_at, published, bytes: 0, messages: 0, messages_max }
    }

    /// A message was taken, or a command of one.
    pub(crate) fn took_message(&mut self) {
        self.messages += 1;
    }

    /// How many were.
    pub(crate) fn messages(&self) -> u32 {
        self.messages
    }

    /// Something was published.
    pub(crate) fn published(&mut self, consequences: Consequences) {
        self.published = self.published.and(consequences);
    }

    /// Whether it is over, after one more step that was about so many bytes.
    pub(crate) fn is_over(&mut self, bytes: usize, is_pressed: bool) -> bool {
        let deliveries = if is_pressed { self.published.deliveries } else { 0 };
        let published = time_of(deliveries + self.published.bytes);
        self.bytes += bytes.max(STEP_BYTES);
        if self.messages >= self.messages_max {
            return true;
        }
        if published >= SLICE || self.bytes < LOOK_BYTES {
            return published >= SLICE;
        }
        self.bytes = 0;
        self.began_at.is_some_and(|began_at| began_at.elapsed() + published >= SLICE)
    }

    /// What it costs.
    pub(crate) fn used(&self) -> Duration {
        let read = self.began_at.map_or(LITTLE, |began_at| began_at.elapsed());
        read + time_of(self.published.deliveries + self.published.bytes)
    }
}

fn time_of(deliveries: u64) -> Duration {
    Duration::from_nanos(deliveries * DELIVERY_NS)
}

/// The queue of those who wait behind the others.
#[derive(Debug)]
pub(crate) struct Queue {
    place: Arc<Semaphore>,
    /// When the slice began that they have in this round.
    began_at: Cell<Instant>,
}

/// The turn of one of them.
pub(crate) struct Turn(OwnedSemaphorePermit);

impl Queue {
    pub(crate) fn new() -> Self {
        Self { place: Arc::new(Semaphore::new(1)), began_at: Cell::new(Instant::now()) }
    }

    /// Waits until it is one's turn.
    pub(crate) async fn turn(&self) -> Turn {
        let place = Arc::clone(&self.place).acquire_owned().await;
        Turn(place.expect("nobody closes it"))
    }

    /// Ends a turn. When the slice of this round is over, the next one's is in the next round.
    pub(crate) async fn end(&self, turn: Turn) {
        if self.began_at.get().elapsed() >= SLICE {
            yield_now().await;
            self.began_at.set(Instant::now());
        }
        drop(turn.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice that has used so many microseconds, all of them for deliveries.
    fn slice(used_us: u64) -> Slice {
        let deliveries = used_us * 1_000 / DELIVERY_NS;
        Slice { published: Consequences { deliveries, bytes: 0 }, ..Slice::begin(1, u32::MAX) }
    }

    #[test]
    fn a_share_is_a_burst_and_then_little_of_the_time() {
        let mut share = Share::default();
        share.charge(slice(900).used());
        assert!(!share.is_used_up(|| 0));
        share.charge(slice(200).used());
        assert!(share.is_used_up(|| 40));
        assert!(!share.is_used_up(|| 60));
        share.charge(slice(10_000_000).used());
        assert!(share.is_used_up(|| 500));
        assert!(!share.is_used_up(|| 600), "what is over is forgiven");
    }

    #[test]
    fn little_adds_up() {
        let mut share = Share::default();
        let little = Slice::begin(1, u32::MAX);
        (0..5_000).for_each(|_| share.charge(little.used()));
        assert!(share.is_used_up(|| 0));
    }

    #[test]
    fn what_is_published_costs_by_subscribers_and_bytes() {
        let costs = |deliveries, bytes| Consequences { deliveries, bytes };
        assert_eq!(Consequences::new(250, 100, false), costs(250, 0));
        assert_eq!(Consequences::new(250, 64 << 10, false), costs(250, 250 * 64));
        assert_eq!(Consequences::new(0, 64 << 10, true), costs(0, 4096));
    }

    /// Many at once are cheap for each, as long as everybody keeps up.
    #[test]
    fn deliveries_end_a_slice_under_pressure() {
        let mut slice = Slice::begin(10, u32::MAX);
        slice.published(Consequences::new(2_000, 100, false));
        assert!(!slice.is_over(1, false) && slice.is_over(1, true));
        slice.published(Consequences::new(32, 64 << 10, false));
        assert!(slice.is_over(1, false));
    }

    #[test]
    fn a_slice_is_over_when_no_more_messages_may_be_taken() {
        let mut slice = Slice::begin(10, 2);
        slice.took_message();
        assert!(!slice.is_over(1, false));
        slice.took_message();
        assert!(slice.is_over(1, false));
        assert_eq!(slice.messages(), 2);
    }
}
