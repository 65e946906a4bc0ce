//! How many connections an address has, and how fast it makes them. An IPv6 address counts for its
//! networks, see [`Source`].

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use dunlin_core::limits::{Buckets, Deed, Rate, Rates, SharedDeeds};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::source::{Source, Sources};

/// What one address may have.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressBounds {
    /// Most connections; 0 = any number.
    pub(crate) connections: usize,
    /// Upgrades a minute in the long run; 0 = any number.
    pub(crate) connect_rate: u32,
    /// Upgrades at once.
    pub(crate) connect_burst: u32,
    /// What all of its connections may do together.
    pub(crate) rates: Rates,
    /// Tokens that are none; none = any number.
    pub(crate) bad_tokens: Option<Rate>,
    /// Calls of the API without a good key; none = any number.
    pub(crate) bad_keys: Option<Rate>,
}

/// The addresses of this node's clients.
pub(crate) struct Crowd {
    bounds: AddressBounds,
    /// Of those who have an entry in `connections`.
    count: Gauge,
    started_at: Instant,
    /// Follows the connections: who has none has no entry.
    connections: Mutex<HashMap<Source, usize>>,
    haste: Mutex<Buckets<Source>>,
    deeds: SharedDeeds<Source>,
    bad_tokens: Failures,
    bad_keys: Failures,
}

/// What addresses tried in vain.
struct Failures {
    rate: Option<Rate>,
    made: Mutex<Buckets<Source>>,
}

/// A rate a minute is one a second by a clock that is so many times slower.
const SECONDS_PER_MINUTE: u64 = 60;

/// What is counted of a connection by its address; dropping it gives its place back.
pub(crate) struct AddressPlace {
    crowd: Arc<Crowd>,
    sources: Sources,
    /// Whether it has a place among the connections of its address.
    is_counted: bool,
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// It has all the connections it may have.
    Full,
    /// It connects too often.
    Hasty,
}

impl Crowd {
    pub(crate) fn new(bounds: AddressBounds, count: Gauge) -> Arc<Self> {
        Arc::new(Self {
            deeds: SharedDeeds::new(bounds.rates.clone()),
            bad_tokens: Failures::new(bounds.bad_tokens),
            bad_keys: Failures::new(bounds.bad_keys),
            bounds,
            count,
            started_at: Instant::now(),
            connections: Mutex::default(),
            haste: Mutex::default(),
        })
    }

    /// Lets one more connection of `address` in. No place if nothing of it is counted.
    ///
    /// # Errors
    /// Why it may not have it. An attempt that comes to nothing is an attempt.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<Box<AddressPlace>>, Crowded> {
        let AddressBounds { connections, connect_rate, .. } = self.bounds;
        let (is_counted, is_metered) = (connections > 0, self.is_metered());
        if !is_counted && !is_metered && connect_rate == 0 {
            return Ok(None);
        }
        let sources = Source::all(address);
        if connect_rate > 0 {
            self.take_tokens(&sources)?;
        }
        if is_counted {
            self.take_place(&sources)?;
        }
        let place = || Box::new(AddressPlace { crowd: Arc::clone(self), sources, is_counted });
        Ok((is_counted || is_metered).then(place))
    }

    /// Whether anything is counted that connections do.
    fn is_metered(&self) -> bool {
        !self.deeds.is_off() || self.bad_tokens.rate.is_some()
    }

    /// Whether the key of one more call of the API from `address` is to be looked at.
    pub(crate) fn may_try_key(&self, address: IpAddr) -> bool {
        self.bad_keys.may_try(&Source::all(address), self.now_ms())
    }

    /// It was no good key.
    pub(crate) fn note_bad_key(&self, address: IpAddr) {
        self.bad_keys.note(&Source::all(address), self.now_ms());
    }

    fn now_ms(&self) -> u64 {
        self.started_at.elapsed().as_millis() as u64
    }

    fn take_place(&self, sources: &Sources) -> Result<(), Crowded> {
        let mut counts = self.connections.lock();
        let has_room = |source: &Source| {
            let bound = self.bounds.connections.saturating_mul(source.share() as usize);
            counts.get(source).is_none_or(|count| *count < bound)
        };
        if !sources.iter().all(has_room) {
            return Err(Crowded::Full);
        }
        for source in sources {
            *counts.entry(*source).or_default() += 1;
        }
        self.count.set(counts.len() as i64);
        Ok(())
    }

    fn give_back(&self, sources: &Sources) {
        let mut counts = self.connections.lock();
        for source in sources {
            if let Entry::Occupied(mut count) = counts.entry(*source) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        self.count.set(counts.len() as i64);
    }

    fn take_tokens(&self, sources: &Sources) -> Result<(), Crowded> {
        let now = self.now_ms() / SECONDS_PER_MINUTE;
        let mut haste = self.haste.lock();
        let may = |source: &Source| haste.take(source, self.connect_rate(*source), 1, now);
        if sources.iter().all(may) { Ok(()) } else { Err(Crowded::Hasty) }
    }

    /// How fast a source may connect, by a clock of minutes.
    fn connect_rate(&self, source: Source) -> Rate {
        let AddressBounds { connect_rate, connect_burst, .. } = self.bounds;
        Rate { per_second: connect_rate, burst: connect_burst }.times(source.share())
    }
}

impl Failures {
    fn new(rate: Option<Rate>) -> Self {
        Self { rate, made: Mutex::default() }
    }

    fn may_try(&self, sources: &Sources, now_ms: u64) -> bool {
        let Some(rate) = self.rate else { return true };
        let made = self.made.lock();
        sources.iter().all(|source| made.left(source, rate.times(source.share()), now_ms) > 0)
    }

    fn note(&self, sources: &Sources, now_ms: u64) {
        let Some(rate) = self.rate else { return };
        let mut made = self.made.lock();
        for source in sources {
            made.charge(source, rate.times(source.share()), 1, now_ms);
        }
    }
}

impl AddressPlace {
    /// Counts a deed, unless the address has done it too often.
    pub(crate) fn may(&self, deed: Deed, count: u32) -> bool {
        let now_ms = self.crowd.now_ms();
        let may = |it: &Source| self.crowd.deeds.may(it, it.share(), deed, count, now_ms);
        self.sources.iter().all(may)
    }

    /// Counts a deed; says for how many milliseconds the address has done it too often now.
    pub(crate) fn count(&self, deed: Deed, count: u32) -> u64 {
        let now_ms = self.crowd.now_ms();
        let counted = |it: &Source| self.crowd.deeds.count(it, it.share(), deed, count, now_ms);
        self.sources.iter().map(counted).max().unwrap_or(0)
    }

    /// How many times the address may do it now.
    pub(crate) fn left(&self, deed: Deed) -> u32 {
        let now_ms = self.crowd.now_ms();
        let left = |it: &Source| self.crowd.deeds.left(it, it.share(), deed, now_ms);
        self.sources.iter().map(left).min().unwrap_or(u32::MAX)
    }

    /// Whether one more token is to be looked at.
    pub(crate) fn may_try_token(&self) -> bool {
        self.crowd.bad_tokens.may_try(&self.sources, self.crowd.now_ms())
    }

    /// It was none.
    pub(crate) fn note_bad_token(&self) {
        self.crowd.bad_tokens.note(&self.sources, self.crowd.now_ms());
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if self.is_counted {
            self.crowd.give_back(&self.sources);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn crowd(connections: usize, connect_rate: u32, connect_burst: u32) -> Arc<Crowd> {
        let bounds = AddressBounds::default();
        let bounds = AddressBounds { connections, connect_rate, connect_burst, ..bounds };
        Crowd::new(bounds, Gauge::default())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_have_theirs() {
        let crowd = crowd(2, 0, 1);
        let first = crowd.admit(ip("192.0.2.1")).unwrap();
        let _second = crowd.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(crowd.admit(ip("192.0.2.1")).err(), Some(Crowded::Full));
        let _other = crowd.admit(ip("192.0.2.2")).unwrap();
        drop(first);
        let _third = crowd.admit(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn networks_of_ipv6_count_too_and_nothing_is_left() {
        let crowd = crowd(2, 0, 1);
        let places: Vec<_> = (0..20)
            .filter_map(|number| crowd.admit(ip(&format!("2001:db8:0:{number:x}::1"))).ok())
            .collect();
        assert_eq!(places.len(), 8, "four times as many as a /64");
        drop(places);
        let places = [ip("2001:db8::1"), ip("2001:db8::2")].map(|it| crowd.admit(it).unwrap());
        assert_eq!(crowd.admit(ip("2001:db8::3")).err(), Some(Crowded::Full));
        drop(places);
        assert!(crowd.connections.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_connects_so_often() {
        let crowd = crowd(0, 60, 3);
        let admitted = |count| (0..count).filter(|_| crowd.admit(ip("192.0.2.1")).is_ok()).count();
        assert_eq!(admitted(10), 3);
        assert_eq!(crowd.admit(ip("192.0.2.1")).err(), Some(Crowded::Hasty));
        assert!(crowd.admit(ip("192.0.2.2")).is_ok());
        advance(Duration::from_millis(2100)).await;
        assert_eq!(admitted(10), 2);
        advance(Duration::from_secs(600)).await;
        assert_eq!(admitted(10), 3);
    }

    #[test]
    fn without_bounds_nothing_is_counted() {
        let crowd = crowd(0, 0, 0);
        assert!(crowd.admit(ip("192.0.2.1")).unwrap().is_none());
        assert!(crowd.haste.lock().is_empty() && crowd.connections.lock().is_empty());
    }
}
