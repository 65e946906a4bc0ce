//! Deeds: what is counted of what a client does, and how often it may be done.

use std::hash::Hash;

use parking_lot::Mutex;

use super::{Buckets, Rate, TokenBucket};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Messages, and of the Centrifuge dialect commands.
    Messages,
    /// Bytes, as they come from the socket.
    Bytes,
    /// Publications.
    Publications,
    /// Subscribers of this node that publications go to.
    Deliveries,
    /// Subscriptions asked for.
    Subscribes,
    /// History, presence, and what was missed.
    Questions,
}

/// Whom a bound is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One connection.
    Connection,
    /// All connections of a user.
    User,
    /// All connections of an address.
    Address,
    /// All publishers of a channel.
    Channel,
}

/// How often each deed may be done; none = any number of times.
#[derive(Clone, Debug, Default)]
pub struct Rates([Option<Rate>; Deed::ALL.len()]);

/// What one connection has done.
#[derive(Clone, Debug, Default)]
pub struct Deeds([TokenBucket; Deed::ALL.len()]);

/// What many have done, each of them with all connections on a node together.
#[derive(Debug)]
pub struct SharedDeeds<K> {
    rates: Rates,
    done: [Mutex<Buckets<K>>; Deed::ALL.len()],
}

impl Deed {
    /// All, for tables by deed.
    pub const ALL: [Self; 6] = [
        Self::Messages,
        Self::Bytes,
        Self::Publications,
        Self::Deliveries,
        Self::Subscribes,
        Self::Questions,
    ];

    /// The value of the metric label `kind`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::Publications => "publications",
            Self::Deliveries => "deliveries",
            Self::Subscribes => "subscribes",
            Self::Questions => "questions",
        }
    }
}

impl Scope {
    /// The value of the metric label `scope`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::User => "user",
            Self::Address => "address",
            Self::Channel => "channel",
        }
    }
}

impl Rates {
    /// These rates.
    #[must_use]
    pub fn new(of: impl Fn(Deed) -> Option<Rate>) -> Self {
        Self(Deed::ALL.map(of))
    }

    /// How often that may be done.
    #[must_use]
    pub fn of(&self, deed: Deed) -> Option<Rate> {
        self.0[deed as usize]
    }

    /// Whether everything may be done any number of times.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl Deeds {
    /// Counts it `count` times, unless it was done too often.
    pub fn may(&mut self, rates: &Rates, deed: Deed, count: u32, now_ms: u64) -> bool {
        let bucket = &mut self.0[deed as usize];
        rates.of(deed).is_none_or(|rate| bucket.take(rate, count, now_ms))
    }

    /// Counts it `count` times; says for how many milliseconds it was done too often now.
    pub fn count(&mut self, rates: &Rates, deed: Deed, count: u32, now_ms: u64) -> u64 {
        let Some(rate) = rates.of(deed) else { return 0 };
        let bucket = &mut self.0[deed as usize];
        bucket.charge(rate, count, now_ms);
        bucket.debt_ms(rate, now_ms)
    }

    /// How many times it may be done now.
    #[must_use]
    pub fn left(&self, rates: &Rates, deed: Deed, now_ms: u64) -> u32 {
        rates.of(deed).map_or(u32::MAX, |rate| self.0[deed as usize].left(rate, now_ms))
    }
}

impl<K: Clone + Eq + Hash> SharedDeeds<K> {
    /// Nobody has done anything.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates, done: Default::default() }
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.rates.is_empty()
    }

    /// As [`Deeds::may`]; `key` may do everything `share` times as often as is written.
    pub fn may(&self, key: &K, share: u32, deed: Deed, count: u32, now_ms: u64) -> bool {
        self.rates.of(deed).is_none_or(|rate| {
            self.done[deed as usize].lock().take(key, rate.times(share), count, now_ms)
        })
    }

    /// As [`Deeds::count`], with a share.
    pub fn count(&self, key: &K, share: u32, deed: Deed, count: u32, now_ms: u64) -> u64 {
        self.rates.of(deed).map_or(0, |rate| {
            self.done[deed as usize].lock().charge(key, rate.times(share), count, now_ms)
        })
    }

    /// As [`Deeds::left`], with a share.
    #[must_use]
    pub fn left(&self, key: &K, share: u32, deed: Deed, now_ms: u64) -> u32 {
        self.rates.of(deed).map_or(u32::MAX, |rate| {
            self.done[deed as usize].lock().left(key, rate.times(share), now_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        let rate = Rate { per_second: 1, burst: 2 };
        Rates::new(|deed| (deed != Deed::Bytes).then_some(rate))
    }

    #[test]
    fn each_deed_is_counted_by_itself() {
        let mut deeds = Deeds::default();
        let rates = rates();
        for deed in [Deed::Messages, Deed::Questions] {
            assert!(deeds.may(&rates, deed, 2, 0) && !deeds.may(&rates, deed, 1, 0));
            assert_eq!((deeds.left(&rates, deed, 0), deeds.count(&rates, deed, 3, 0)), (0, 3000));
        }
        assert!(deeds.may(&rates, Deed::Bytes, 1000, 0));
        assert_eq!(deeds.left(&rates, Deed::Bytes, 0), u32::MAX);
        assert!(!rates.is_empty() && Rates::default().is_empty());
    }

    #[test]
    fn whoever_shares_has_one_account() {
        let shared = SharedDeeds::new(rates());
        assert!(shared.may(&"a", 1, Deed::Subscribes, 2, 0));
        assert!(!shared.may(&"a", 1, Deed::Subscribes, 1, 0));
        assert!(shared.may(&"b", 4, Deed::Subscribes, 8, 0));
        assert_eq!(shared.left(&"b", 4, Deed::Subscribes, 250), 1);
        assert_eq!(shared.count(&"c", 1, Deed::Messages, 3, 0), 1000);
        assert_eq!(shared.count(&"c", 1, Deed::Bytes, 3, 0), 0);
    }
}
