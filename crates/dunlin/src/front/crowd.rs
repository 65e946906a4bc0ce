//! How many connections an address has, and how fast it makes them. An IPv6 address counts for its
//! networks, see [`Source`].

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use dunlin_core::limits::{Buckets, Rate};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::source::{Source, Sources};

/// What one address may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressBounds {
    /// Most connections; 0 = any number.
    pub(crate) connections: usize,
    /// Upgrades a minute in the long run; 0 = any number.
    pub(crate) connect_rate: u32,
    /// Upgrades at once.
    pub(crate) connect_burst: u32,
}

/// The addresses of this node's clients.
pub(crate) struct Crowd {
    bounds: AddressBounds,
    started_at: Instant,
    /// Follows the connections: who has none has no entry.
    connections: Mutex<HashMap<Source, usize>>,
    haste: Mutex<Buckets<Source>>,
}

/// A rate a minute is one a second by a clock that is so many times slower.
const SECONDS_PER_MINUTE: u64 = 60;

/// A place among the connections of an address; dropping it gives it back.
pub(crate) struct AddressPlace {
    crowd: Arc<Crowd>,
    sources: Sources,
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
    pub(crate) fn new(bounds: AddressBounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            started_at: Instant::now(),
            connections: Mutex::default(),
            haste: Mutex::default(),
        })
    }

    /// Lets one more connection of `address` in. No place if the connections are not counted.
    ///
    /// # Errors
    /// Why it may not have it. An attempt that comes to nothing is an attempt.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<Box<AddressPlace>>, Crowded> {
        let AddressBounds { connections, connect_rate, .. } = self.bounds;
        if connections == 0 && connect_rate == 0 {
            return Ok(None);
        }
        let sources = Source::all(address);
        if connect_rate > 0 {
            self.take_tokens(&sources)?;
        }
        if connections == 0 {
            return Ok(None);
        }
        self.take_place(&sources)?;
        Ok(Some(Box::new(AddressPlace { crowd: Arc::clone(self), sources })))
    }

    fn take_place(&self, sources: &Sources) -> Result<(), Crowded> {
        let mut counts = self.connections.lock();
        let has_room = |source: &Source| {
            let bound = self.bounds.connections.saturating_mul(source.share());
            counts.get(source).is_none_or(|count| *count < bound)
        };
        if !sources.iter().all(has_room) {
            return Err(Crowded::Full);
        }
        for source in sources {
            *counts.entry(*source).or_default() += 1;
        }
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
    }

    fn take_tokens(&self, sources: &Sources) -> Result<(), Crowded> {
        let now = self.started_at.elapsed().as_millis() as u64 / SECONDS_PER_MINUTE;
        let mut haste = self.haste.lock();
        let may = |source: &Source| haste.take(source, self.connect_rate(*source), 1, now);
        if sources.iter().all(may) { Ok(()) } else { Err(Crowded::Hasty) }
    }

    /// How fast a source may connect, by a clock of minutes.
    fn connect_rate(&self, source: Source) -> Rate {
        let share = u32::try_from(source.share()).unwrap_or(u32::MAX);
        let AddressBounds { connect_rate, connect_burst, .. } = self.bounds;
        Rate {
            per_second: connect_rate.saturating_mul(share),
            burst: connect_burst.saturating_mul(share),
        }
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        self.crowd.give_back(&self.sources);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn crowd(connections: usize, connect_rate: u32, connect_burst: u32) -> Arc<Crowd> {
        Crowd::new(AddressBounds { connections, connect_rate, connect_burst })
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
