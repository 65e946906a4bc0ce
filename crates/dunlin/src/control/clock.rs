//! Whether another node's clock of day agrees with this node's. Nothing that nodes tell each other
//! depends on it; when tokens expire does. Pure.

/// Differences up to this are nobody's business: no token is that exact.
const TOLERATED_MS: u64 = 3_000;

/// How far two signs of life in a row may be apart in what they say. What was merely late comes
/// together, and says a different time each.
const JITTER_MS: u64 = 1_000;

/// What the signs of life of one node say about its clock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// By how much it seemed to be ahead at the last one, in milliseconds.
    last: Option<i64>,
    /// By how much it is.
    ahead_ms: i64,
}

impl Clock {
    /// Notes a sign of life, by the writer's clock and by this node's, in unix milliseconds.
    pub(super) fn hear(&mut self, sent_at_ms: u64, heard_at_ms: u64) {
        let ahead_ms = sent_at_ms.wrapping_sub(heard_at_ms).cast_signed();
        if self.last.replace(ahead_ms).is_some_and(|last| last.abs_diff(ahead_ms) < JITTER_MS) {
            self.ahead_ms = ahead_ms;
        }
    }

    /// By how much it is ahead, in milliseconds; below 0, it is behind.
    pub(super) fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }

    /// Whether somebody should set it.
    pub(super) fn is_wrong(&self) -> bool {
        self.ahead_ms.unsigned_abs() > TOLERATED_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(heard: &[(u64, u64)]) -> Clock {
        let mut clock = Clock::default();
        heard.iter().for_each(|(sent, heard)| clock.hear(*sent, *heard));
        clock
    }

    #[test]
    fn a_clock_that_stands_elsewhere_is_wrong_ahead_or_behind() {
        let ahead = clock(&[(3_700_000, 100_000), (3_703_000, 103_040)]);
        assert!(ahead.is_wrong());
        assert_eq!(ahead.ahead_ms(), 3_599_960);
        assert!(clock(&[(0, 100_000), (3_000, 103_000)]).is_wrong());
        assert!(!clock(&[(100_000, 101_000), (103_000, 104_100)]).is_wrong());
        assert!(clock(&[(u64::MAX, 0), (u64::MAX, 0)]).ahead_ms() < 0, "any number is a time");
    }

    #[test]
    fn one_that_was_set_right_is_right() {
        let set = [(0, 100_000), (3_000, 103_000), (106_000, 106_000), (109_000, 109_000)];
        assert!(!clock(&set).is_wrong());
    }

    #[test]
    fn what_comes_late_is_no_wrong_clock() {
        assert!(!clock(&[(10_000, 40_000)]).is_wrong());
        assert!(!clock(&[(10_000, 40_000), (13_000, 40_000), (16_000, 40_001)]).is_wrong());
    }
}
