//! How long to wait before the next try: full jitter, so that a flock of nodes does not fall upon a
//! returning server at the same moment.

use std::time::Duration;

/// The waits between tries; each is random between nothing and a ceiling that doubles.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The wait before the next try, after one that failed as `failure` tells.
    pub(crate) fn next_wait(&mut self, failure: Failure) -> Duration {
        let ceiling_max = match failure {
            Failure::Instant => INSTANT_CEILING,
            Failure::Costly => CEILING,
        };
        let ceiling = FLOOR.saturating_mul(1 << self.tries.min(16)).min(ceiling_max);
        self.tries = self.tries.saturating_add(1);
        ceiling.mul_f64(random())
    }
}

/// What a failed try cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody listens, or who does is not ready. That costs next to nothing, so it is asked often:
    /// publishes wait.
    Instant,
    /// A time-out, or a server that is there and unwilling.
    Costly,
}

/// Uniform in `0.0..1.0`.
fn random() -> f64 {
    let bits = crate::random() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

const FLOOR: Duration = Duration::from_millis(50);
/// Attempts overlap, and the next one should not be far when the way is free again.
const CEILING: Duration = Duration::from_millis(700);
/// Below half a second, that deliveries go on within a second of a server's return.
const INSTANT_CEILING: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_ceiling_that_doubles_to_its_bound() {
        for (failure, bound) in [(Failure::Costly, CEILING), (Failure::Instant, INSTANT_CEILING)] {
            let mut backoff = Backoff::default();
            let mut longest = Duration::ZERO;
            for tries in 0..1000 {
                let wait = backoff.next_wait(failure);
                assert!(wait <= FLOOR * (1 << tries.min(6)) && wait <= bound);
                longest = longest.max(wait);
            }
            assert!(longest > bound.mul_f64(0.9), "jitter reaches up to the ceiling");
        }
    }
}
