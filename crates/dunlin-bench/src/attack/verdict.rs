//! What was measured of a pattern, and which bars it misses. Pure.

use hdrhistogram::Histogram;

use super::{
    good::Kept,
    ground::Counted,
    mob::Ended,
    pattern::{Bars, Newcomers},
    probes::Tries,
};

/// All figures of a pattern.
pub(super) struct Measured {
    pub(super) ended: Ended,
    /// The good clients' deliveries: calm, during the attack, after it.
    pub(super) latency: [Times; 3],
    pub(super) kept: Kept,
    /// During the attack.
    pub(super) newcomers: Tries,
    pub(super) health: Tries,
    /// Resident MiB: calm, at their peak, after.
    pub(super) resident: [f64; 3],
    pub(super) cpu_seconds: f64,
    /// Of this program: good clients and attackers together.
    pub(super) own_cpu_seconds: f64,
    pub(super) descriptors: [usize; 2],
    /// How long after the attack everything was as before, if it was.
    pub(super) back_after: Option<f64>,
    pub(super) counted: Counted,
    /// Whether somebody new gets in afterwards.
    pub(super) takes_newcomers: bool,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Times {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// How strictly it is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Judge {
    /// By all bars.
    Everything,
    /// Only by what no busy machine excuses.
    Promises,
}

impl Times {
    /// Of what never came.
    pub(super) const NEVER: Self =
        Self { p50: f64::INFINITY, p99: f64::INFINITY, max: f64::INFINITY };

    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::NEVER;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self { p50: at(0.5), p99: at(0.99), max: histogram.max() as f64 / 1e6 }
    }
}

impl Measured {
    /// The good clients' p99 as a multiple of what it was, or of a millisecond: below that, it is
    /// the machine that is measured.
    pub(super) fn ratio(&self) -> f64 {
        ratio(self.latency[0].p99, self.latency[1].p99)
    }

    /// Which bars are missed, in words.
    pub(super) fn missed(&self, bars: &Bars, judge: Judge) -> Vec<&'static str> {
        let welcome = bars.newcomers == Newcomers::Welcome;
        let late = |tries: &Tries| tries.failed > 0 || Times::of(&tries.latency).p99 > ANSWER_MS;
        let promises = [
            (!self.kept.closed.is_empty(), "closed"),
            (self.kept.lost > 0, "lost"),
            (self.kept.repeated > 0, "repeated"),
            (!self.counted.add_up(), "conservation"),
            (self.counted.panics > 0, "panic"),
            (!self.takes_newcomers, "takes nobody"),
        ];
        let others = [
            (self.ratio() > bars.ratio, "latency"),
            (welcome && late(&self.newcomers), "newcomers"),
            (late(&self.health), "health"),
            (self.resident[1] - self.resident[0] > bars.growth, "memory"),
            (self.back_after.is_none(), "not back"),
        ];
        let strict = judge == Judge::Everything;
        let counted = promises.into_iter().chain(others.into_iter().filter(|_| strict));
        counted.filter(|&(missed, _)| missed).map(|(_, bar)| bar).collect()
    }
}

pub(super) fn ratio(calm: f64, now: f64) -> f64 {
    now.max(LEAST_MS) / calm.max(LEAST_MS)
}

const LEAST_MS: f64 = 1.0;
/// Somebody new, and `/health`, may wait so long.
pub(super) const ANSWER_MS: f64 = 50.0;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{connection::Ending, histogram};

    fn swift() -> Tries {
        let mut tries = Tries::default();
        tries.latency.record(3_000_000).unwrap();
        tries
    }

    fn good() -> Measured {
        let times = Times { p50: 0.1, p99: 0.3, max: 0.9 };
        Measured {
            ended: Ended::default(),
            latency: [times; 3],
            kept: Kept::default(),
            newcomers: swift(),
            health: swift(),
            resident: [10.0, 12.0, 11.0],
            cpu_seconds: 1.0,
            own_cpu_seconds: 1.0,
            descriptors: [20, 20],
            back_after: Some(2.0),
            counted: Counted { accepted: 3, active: 1, closed: 2, panics: 0 },
            takes_newcomers: true,
        }
    }

    fn check(change: impl Fn(&mut Measured), strictly: &[&str], leniently: &[&str]) {
        let mut measured = good();
        change(&mut measured);
        assert_eq!(measured.missed(&Bars::USUAL, Judge::Everything), strictly);
        assert_eq!(measured.missed(&Bars::USUAL, Judge::Promises), leniently);
    }

    #[test]
    fn each_bar_is_missed_by_what_it_is_about() {
        check(|_| {}, &[], &[]);
        check(|it| it.latency[1].p99 = 1.9, &[], &[]);
        check(|it| it.latency[1].p99 = 2.1, &["latency"], &[]);
        check(|it| it.latency[1] = Times::of(&histogram::new()), &["latency"], &[]);
        check(|it| it.health = Tries::default(), &["health"], &[]);
        check(|it| it.resident[1] = 75.0, &["memory"], &[]);
        check(|it| it.back_after = None, &["not back"], &[]);
        check(|it| it.health.failed = 1, &["health"], &[]);
        check(|it| it.newcomers.latency.record(60_000_000).unwrap(), &["newcomers"], &[]);
        check(|it| it.kept.lost = 1, &["lost"], &["lost"]);
        let closed = BTreeMap::from([(Ending::Code(1013), 1)]);
        check(|it| it.kept.closed = closed.clone(), &["closed"], &["closed"]);
        check(|it| it.counted.active = 2, &["conservation"], &["conservation"]);
        check(|it| it.takes_newcomers = false, &["takes nobody"], &["takes nobody"]);
    }

    #[test]
    fn newcomers_may_be_refused_where_attackers_hold_all_places() {
        let mut measured = good();
        measured.newcomers.failed = 9;
        let crowded = Bars { newcomers: Newcomers::Crowded, ..Bars::USUAL };
        assert_eq!(measured.missed(&crowded, Judge::Everything), [""; 0]);
    }
}
