//! The one clock: CLOCK_MONOTONIC in nanoseconds, the same in every process of this machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot; never goes back.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// A duration in nanoseconds, at most u64::MAX (584 years).
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
