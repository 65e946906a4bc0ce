//! How full the memory is that the node may use, and what follows from that: first nobody new is
//! let in, then those who send most wait, then those are closed for whom most is kept. The node
//! itself is never to be killed for want of memory.

mod ceilings;
mod watch;

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tokio::time::sleep;

pub(crate) use self::{
    ceilings::{Ceilings, Fill},
    watch::watch,
};

/// How short memory is. What holds for a level holds for those above it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// There is enough.
    Ample,
    /// Nobody new is let in.
    Tight,
    /// Those who send much are not read from for a while.
    Scarce,
    /// Those are closed for whom most is kept.
    Critical,
}

/// Thousandths below its beginning at which a level ends.
const SLACK: u64 = 20;

impl Level {
    const ALL: [Self; 4] = [Self::Ample, Self::Tight, Self::Scarce, Self::Critical];

    /// The thousandths of the limit from which on it is this level.
    fn begins_at(self) -> u64 {
        match self {
            Self::Ample => 0,
            Self::Tight => 800,
            Self::Scarce => 880,
            Self::Critical => 940,
        }
    }

    fn of(thousandths: u64) -> Self {
        let is_reached = |level: &&Self| thousandths >= level.begins_at();
        Self::ALL.iter().rev().find(is_reached).copied().unwrap_or(Self::Ample)
    }

    /// The level after this one. It ends somewhat below where it begins, so that it does not come
    /// and go all the time.
    fn next(self, fill: Fill) -> Self {
        let thousandths = fill.thousandths();
        Self::of(thousandths).max(Self::of(thousandths.saturating_add(SLACK)).min(self))
    }
}

/// The level as of the last look, for all threads.
#[derive(Debug, Default)]
pub(crate) struct Memory(AtomicU8);

/// How often somebody who sends much looks while memory is scarce ...
const PAUSE: Duration = Duration::from_millis(20);

/// ... and how many times, until it is read from all the same, a little: what fills the memory may
/// not be clients at all.
const PAUSES_MAX: usize = 5;

impl Memory {
    pub(crate) fn is(&self, level: Level) -> bool {
        self.0.load(Ordering::Relaxed) >= level as u8
    }

    /// Waits until memory is scarce no more, but a tenth of a second at most.
    pub(crate) async fn relaxed(&self) {
        for _ in 0..PAUSES_MAX {
            if !self.is(Level::Scarce) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_fill() {
        for (used, level) in [
            (0, Level::Ample),
            (799, Level::Ample),
            (800, Level::Tight),
            (880, Level::Scarce),
            (940, Level::Critical),
            (2_000, Level::Critical),
        ] {
            assert_eq!(Level::Ample.next(Fill { used, limit: 1_000 }), level, "{used}");
        }
        assert_eq!(Level::Ample.next(Fill { used: 0, limit: 0 }), Level::Critical);
        let after_critical = |used| Level::Critical.next(Fill { used, limit: 1_000 });
        assert_eq!(
            [920, 919, 859, 779].map(after_critical),
            [Level::Critical, Level::Scarce, Level::Tight, Level::Ample]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_much_waits_a_moment_at_most() {
        let memory = Memory::default();
        memory.set(Level::Critical);
        let began_at = tokio::time::Instant::now();
        memory.relaxed().await;
        assert_eq!(began_at.elapsed(), PAUSE * 5);
        memory.set(Level::Tight);
        assert!(memory.is(Level::Tight) && !memory.is(Level::Scarce));
        memory.relaxed().await;
        assert_eq!(began_at.elapsed(), PAUSE * 5);
    }
}
