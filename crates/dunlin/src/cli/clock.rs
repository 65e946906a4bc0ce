//! The time of day, for verbs that make or judge tokens.

use std::time::SystemTime;

/// Seconds since 1970; before that, none.
pub(super) fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
