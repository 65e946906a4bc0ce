//! Token buckets of many: users, addresses, channels. How many are remembered is bounded.

use std::{collections::HashMap, hash::Hash};

use super::{Rate, TokenBucket};

/// Most buckets of one table that are remembered.
pub const BUCKETS_MAX: usize = 65_536;

/// The buckets of those who have taken something from them lately; everybody else's is full.
#[derive(Debug)]
pub struct Buckets<K> {
    buckets: HashMap<K, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: TokenBucket,
    full_at_ms: u64,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self { buckets: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    /// As [`TokenBucket::take`].
    pub fn take(&mut self, key: &K, rate: Rate, count: u32, now_ms: u64) -> bool {
        self.with(key, rate, now_ms, |tokens| tokens.take(rate, count, now_ms))
    }

    /// As [`TokenBucket::charge`]; says how large the debt is then, as [`TokenBucket::debt_ms`].
    pub fn charge(&mut self, key: &K, rate: Rate, count: u32, now_ms: u64) -> u64 {
        self.with(key, rate, now_ms, |tokens| {
            tokens.charge(rate, count, now_ms);
            tokens.debt_ms(rate, now_ms)
        })
    }

    /// As [`TokenBucket::left`].
    #[must_use]
    pub fn left(&self, key: &K, rate: Rate, now_ms: u64) -> u32 {
        self.buckets.get(key).map_or(rate.burst, |bucket| bucket.tokens.left(rate, now_ms))
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn with<T>(
        &mut self,
        key: &K,
        rate: Rate,
        now_ms: u64,
        change: impl FnOnce(&mut TokenBucket) -> T,
    ) -> T {
        if !self.buckets.contains_key(key) {
            if self.buckets.len() >= BUCKETS_MAX {
                self.forget_some(now_ms);
            }
            let full = Bucket { tokens: TokenBucket::default(), full_at_ms: now_ms };
            self.buckets.insert(key.clone(), full);
        }
        let bucket = self.buckets.get_mut(key).expect("it is there, or was made just now");
        let outcome = change(&mut bucket.tokens);
        bucket.full_at_ms = bucket.tokens.full_at_ms(rate);
        outcome
    }

    /// Forgets full ones, of which there is nothing to know, and if that is not enough a quarter of
    /// all, those that are full soonest: many who take little cannot wash away who took much.
    fn forget_some(&mut self, now_ms: u64) {
        self.buckets.retain(|_, bucket| bucket.full_at_ms > now_ms);
        let enough = BUCKETS_MAX - BUCKETS_MAX / 4;
        if self.buckets.len() <= enough {
            return;
        }
        let mut times: Vec<_> = self.buckets.values().map(|bucket| bucket.full_at_ms).collect();
        let mut left = times.len() - enough;
        let (.., &mut last, _) = times.select_nth_unstable(left - 1);
        self.buckets.retain(|_, bucket| {
            let goes = left > 0 && bucket.full_at_ms <= last;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 1, burst: 3 };

    #[test]
    fn each_has_its_own() {
        let mut buckets = Buckets::default();
        let mut taken = |key| (0..10).filter(|_| buckets.take(&key, RATE, 1, 0)).count();
        assert_eq!([taken("a"), taken("b"), taken("a")], [3, 3, 0]);
        assert_eq!((buckets.left(&"a", RATE, 2_000), buckets.left(&"c", RATE, 0)), (2, 3));
        assert_eq!(buckets.charge(&"a", RATE, 2, 1_000), 1_000);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_who_took_most_stays() {
        let mut buckets = Buckets::default();
        while buckets.take(&u64::MAX, RATE, 1, 0) {}
        let many = BUCKETS_MAX as u64 + 10;
        for key in 0..many {
            assert!(buckets.take(&key, RATE, 1, 0));
        }
        assert!((BUCKETS_MAX / 2..=BUCKETS_MAX).contains(&buckets.len()), "{}", buckets.len());
        assert!(!buckets.take(&u64::MAX, RATE, 1, 0));
        // Those that are full again go first.
        for key in many..many + BUCKETS_MAX as u64 / 2 {
            assert!(buckets.take(&key, RATE, 1, 60_000));
        }
        assert!(buckets.len() <= BUCKETS_MAX / 2 + 1, "{}", buckets.len());
    }
}
