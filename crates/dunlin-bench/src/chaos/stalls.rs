//! Whether the machine itself stands still: a thread that sleeps a little again and again notes how
//! much longer it slept. What happens in such a moment says nothing about servers and nodes.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::clock::{self, SECOND, nanoseconds};

/// The thread that sleeps.
pub(crate) struct Sleeper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Stall>>,
}

/// A moment of standing still (`clock::now`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    ended: u64,
    lasted: u64,
}

impl Sleeper {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut stalls, mut last) = (Vec::new(), clock::now());
            while !told.load(Ordering::Relaxed) {
                thread::sleep(NAP);
                let now = clock::now();
                let lasted = (now - last).saturating_sub(nanoseconds(NAP));
                if lasted > NOTED_NS {
                    stalls.push(Stall { ended: now, lasted });
                }
                last = now;
            }
            stalls
        });
        Self { stop, thread }
    }

    pub(crate) fn finish(self) -> Vec<Stall> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// The longest one that ended in this time, in seconds.
pub(crate) fn longest(stalls: &[Stall], time: &Range<u64>) -> f64 {
    let within = stalls.iter().filter(|stall| time.contains(&stall.ended));
    within.map(|stall| stall.lasted).max().unwrap_or_default() as f64 / SECOND as f64
}

const NAP: Duration = Duration::from_millis(10);
const NOTED_NS: u64 = SECOND / 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_the_time_counts() {
        let stall = |ended, lasted| Stall { ended: ended * SECOND, lasted: lasted * SECOND };
        let stalls = [stall(9, 5), stall(12, 1), stall(14, 2), stall(20, 5)];
        assert_eq!(longest(&stalls, &(10 * SECOND..20 * SECOND)), 2.0);
        assert_eq!(longest(&stalls, &(15 * SECOND..20 * SECOND)), 0.0);
    }
}
