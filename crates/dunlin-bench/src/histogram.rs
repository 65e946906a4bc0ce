//! Latency histograms: nanoseconds, three digits, up to a minute, and how they travel as JSON.

use hdrhistogram::Histogram;

/// An empty one.
pub(crate) fn new() -> Histogram<u64> {
    // Below a microsecond nothing here means anything; above a minute a run has failed anyway.
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are constants in order")
}

/// Its content as (nanoseconds, count).
pub(crate) fn to_pairs(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

/// The inverse of `to_pairs`; pairs of several histograms add up.
pub(crate) fn from_pairs(pairs: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = new();
    for &(value, count) in pairs {
        histogram.saturating_record_n(value, count);
    }
    histogram
}
