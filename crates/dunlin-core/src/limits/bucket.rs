//! A token bucket: how much of something may happen in the long run, and how much at once.

/// So much per second in the long run, and so much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that flow in per second; at least 1.
    pub per_second: u32,
    /// Tokens that there are at most; at least 1.
    pub burst: u32,
}

/// A token bucket in one word; by default it is full. It counts exactly, by a clock in milliseconds
/// that starts near zero and does not run back, as long as that and the rate multiplied are less
/// than 2^64.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    /// When it is full again, in thousandths of tokens that have flowed since the clock began.
    full_at: u64,
}

/// How long it takes at most to pay back what was taken beyond what there was.
const DEBT_MAX_MS: u64 = 60_000;

impl Rate {
    /// So many times as much, in the long run and at once.
    #[must_use]
    pub fn times(self, share: u32) -> Self {
        let Self { per_second, burst } = self;
        Self { per_second: per_second.saturating_mul(share), burst: burst.saturating_mul(share) }
    }

    fn flowed(self, now_ms: u64) -> u64 {
        now_ms.saturating_mul(u64::from(self.per_second))
    }

    fn full(self) -> u64 {
        thousandths(self.burst)
    }
}

impl TokenBucket {
    /// Takes `count` tokens; false when there are fewer. More than there ever are at once may be
    /// taken from a full bucket, and are paid back before there is another one.
    pub fn take(&mut self, rate: Rate, count: u32, now_ms: u64) -> bool {
        let needed = thousandths(count).min(rate.full());
        let has_them = self.missing(rate, now_ms) <= rate.full() - needed;
        if has_them {
            self.full_at = self.with(rate, count, now_ms);
        }
        has_them
    }

    /// Takes `count` tokens whether they are there or not. What would be paid back in more than
    /// a minute is forgiven: who shares a bucket with many would wait for all of them.
    pub fn charge(&mut self, rate: Rate, count: u32, now_ms: u64) {
        let most = rate.flowed(now_ms.saturating_add(DEBT_MAX_MS)).saturating_add(rate.full());
        self.full_at = self.with(rate, count, now_ms).min(most.max(self.full_at));
    }

    /// When it is full again if `count` more are taken now.
    fn with(&self, rate: Rate, count: u32, now_ms: u64) -> u64 {
        self.full_at.max(rate.flowed(now_ms)).saturating_add(thousandths(count))
    }

    /// How many tokens there are.
    #[must_use]
    pub fn left(&self, rate: Rate, now_ms: u64) -> u32 {
        let left = rate.full().saturating_sub(self.missing(rate, now_ms)) / 1000;
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// In how many milliseconds what was charged beyond what there was has been paid back.
    #[must_use]
    pub fn debt_ms(&self, rate: Rate, now_ms: u64) -> u64 {
        let debt = self.missing(rate, now_ms).saturating_sub(rate.full());
        debt.div_ceil(u64::from(rate.per_second.max(1)))
    }

    /// When it is full again, by its clock.
    #[must_use]
    pub(super) fn full_at_ms(&self, rate: Rate) -> u64 {
        self.full_at.div_ceil(u64::from(rate.per_second.max(1)))
    }

    /// Thousandths of tokens that a full bucket has more.
    fn missing(&self, rate: Rate, now_ms: u64) -> u64 {
        self.full_at.saturating_sub(rate.flowed(now_ms))
    }
}

fn thousandths(count: u32) -> u64 {
    u64::from(count) * 1000
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut bucket = TokenBucket::default();
        let mut taken = |now_ms| (0..10).filter(|_| bucket.take(rate, 1, now_ms)).count();
        assert_eq!([taken(0), taken(200), taken(60_000), taken(60_099)], [3, 2, 3, 0]);
    }

    #[test]
    fn what_is_more_than_it_holds_is_paid_back() {
        let rate = Rate { per_second: 1000, burst: 5000 };
        let mut bucket = TokenBucket::default();
        assert!(bucket.take(rate, 10_000, 0));
        assert_eq!((bucket.debt_ms(rate, 0), bucket.left(rate, 0)), (5000, 0));
        assert!(!bucket.take(rate, 1, 5000) && bucket.take(rate, 1, 5001));
        assert!(!bucket.take(rate, 10_000, 10_000) && bucket.take(rate, 10_000, 10_001));
    }

    #[test]
    fn who_shares_a_bucket_waits_a_minute_at_most() {
        let rate = Rate { per_second: 1, burst: 10 };
        let mut bucket = TokenBucket::default();
        (0..1000).for_each(|_| bucket.charge(rate, 10, 0));
        assert_eq!(bucket.debt_ms(rate, 0), DEBT_MAX_MS);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let rate = Rate { per_second: u32::MAX, burst: u32::MAX };
        let mut bucket = TokenBucket::default();
        for now_ms in [0, 1, u64::from(u32::MAX), u64::MAX] {
            for _ in 0..3 {
                bucket.charge(rate, u32::MAX, now_ms);
            }
            assert!(!bucket.take(rate, u32::MAX, now_ms) || now_ms == u64::MAX);
            assert!(bucket.debt_ms(rate, now_ms) < 10_000);
        }
    }

    proptest! {
        /// The same as tokens that are counted one by one: none too many, and no credit is lost.
        #[test]
        fn it_grants_its_burst_and_what_flows_in_and_no_more(
            per_second in 1..5_000_u32,
            burst in 1..200_u32,
            steps in vec((0..400_u64, 0..300_u32, any::<bool>()), 1..100),
        ) {
            let rate = Rate { per_second, burst };
            let mut bucket = TokenBucket::default();
            let (mut now_ms, mut tokens) = (0, i128::from(burst) * 1000);
            for (pause_ms, count, is_charged) in steps {
                now_ms += pause_ms;
                let flowed = i128::from(pause_ms) * i128::from(per_second);
                tokens = (tokens + flowed).min(i128::from(burst) * 1000);
                let needed = i128::from(count.min(burst)) * 1000;
                if is_charged {
                    bucket.charge(rate, count, now_ms);
                } else {
                    prop_assert_eq!(bucket.take(rate, count, now_ms), tokens >= needed);
                }
                if is_charged {
                    let least = tokens.min(-i128::from(DEBT_MAX_MS) * i128::from(per_second));
                    tokens = least.max(tokens - i128::from(count) * 1000);
                } else if tokens >= needed {
                    tokens -= i128::from(count) * 1000;
                }
                prop_assert_eq!(i128::from(bucket.left(rate, now_ms)), tokens.max(0) / 1000);
                let debt_ms = i128::from(bucket.debt_ms(rate, now_ms));
                let paid_back = tokens + debt_ms * i128::from(per_second);
                prop_assert!(tokens >= 0 && debt_ms == 0 || paid_back >= 0);
                prop_assert!(debt_ms == 0 || paid_back < i128::from(per_second));
            }
        }
    }
}
