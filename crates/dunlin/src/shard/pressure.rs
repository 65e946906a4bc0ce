//! Pressure: subscribers of a channel who read, but not as fast as others publish. Their publishers
//! on this node are slowed down before such a subscriber has to be closed: a good reader pays for
//! nobody's flood. Who does not read at all slows nobody.

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use dunlin_core::channel::ChannelName;
use foldhash::quality::RandomState;
use tokio::time::Instant;

/// How long a publisher is not read from after it published under pressure, and how long pressure
/// lasts without more of it.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Channels are told apart by their hash; two of one place slow each other down now and then.
const PLACES: usize = 1024;

/// Where there is pressure, for all shards of a node.
#[derive(Clone, Debug)]
pub(crate) struct Pressure {
    began_at: Instant,
    /// Until when, in milliseconds since it began; 0 = there never was any.
    until_ms: Arc<[AtomicU32]>,
    hasher: RandomState,
}

impl Pressure {
    pub(crate) fn new() -> Self {
        let until_ms = (0..PLACES).map(|_| AtomicU32::default()).collect();
        Self { began_at: Instant::now(), until_ms, hasher: RandomState::default() }
    }

    /// A subscriber of the channel is behind.
    pub(crate) fn note(&self, channel: &ChannelName) {
        let until_ms = self.now_ms() + PAUSE.as_millis() as u32;
        self.place(channel).store(until_ms, Ordering::Relaxed);
    }

    /// Whether publishers should wait.
    pub(crate) fn is_on(&self, channel: &ChannelName) -> bool {
        let until_ms = self.place(channel).load(Ordering::Relaxed);
        // The clock is for those alone who need it.
        until_ms > 0 && self.now_ms() < until_ms
    }

    fn now_ms(&self) -> u32 {
        self.began_at.elapsed().as_millis() as u32
    }

    fn place(&self, channel: &ChannelName) -> &AtomicU32 {
        &self.until_ms[self.hasher.hash_one(channel) as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pressure_passes() {
        let pressure = Pressure::new();
        let channel = ChannelName::new("a").unwrap();
        assert!(!pressure.is_on(&channel));
        pressure.note(&channel);
        assert!(pressure.is_on(&channel));
        tokio::time::advance(PAUSE).await;
        assert!(!pressure.is_on(&channel));
    }
}
