//! What one process saw of a run, in a form that adds up over processes and travels as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checker::Faults;

/// The counts of one process, or the sum over several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Connections that were upgraded.
    pub(crate) connections: u64,
    /// Connections that were not, by kind.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Connections the server ended, by close code or kind; stalled ones apart.
    pub(crate) closed: BTreeMap<String, u64>,
    /// How the stalled connections ended once they read again.
    pub(crate) stalled: BTreeMap<String, u64>,
    /// Pings of the server, all answered.
    pub(crate) pings: u64,
    /// All deliveries of the run.
    pub(crate) deliveries: u64,
    /// Deliveries while measuring.
    pub(crate) measured_deliveries: u64,
    /// Messages that are none of this run's.
    pub(crate) foreign: u64,
    /// Deliveries that never came.
    pub(crate) lost: u64,
    /// Deliveries that came wrong.
    pub(crate) faults: Faults,
    /// Latencies while measuring: (nanoseconds, count), ascending.
    pub(crate) latency: Vec<(u64, u64)>,
    /// CPU time of each load process while measuring, as a share of one core.
    pub(crate) generator_cpu: Vec<f64>,
    /// For each process: the order in which it saw the messages of each channel, as a hash.
    pub(crate) orders: Vec<Vec<Option<u64>>>,
}

impl Tally {
    /// Adds what another process of the same run saw.
    pub(crate) fn add(&mut self, other: Self) {
        self.connections += other.connections;
        for (sum, part) in [
            (&mut self.failures, other.failures),
            (&mut self.closed, other.closed),
            (&mut self.stalled, other.stalled),
        ] {
            for (kind, count) in part {
                *sum.entry(kind).or_default() += count;
            }
        }
        self.pings += other.pings;
        self.deliveries += other.deliveries;
        self.measured_deliveries += other.measured_deliveries;
        self.foreign += other.foreign;
        self.lost += other.lost;
        self.faults.duplicated += other.faults.duplicated;
        self.faults.out_of_order += other.faults.out_of_order;
        self.faults.misrouted += other.faults.misrouted;
        self.latency.extend(other.latency);
        self.generator_cpu.extend(other.generator_cpu);
        self.orders.extend(other.orders);
    }

    /// Whether processes disagree about the order of a channel's messages although none is missing.
    pub(crate) fn orders_differ(&self) -> bool {
        let channels = self.orders.first().map_or(0, Vec::len);
        let differs = |channel: usize| {
            let mut seen = self.orders.iter().filter_map(|orders| orders[channel]);
            let first = seen.next();
            seen.any(|order| Some(order) != first)
        };
        self.lost == 0 && (0..channels).any(differs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_with_different_orders_disagree_unless_one_has_no_subscriber_there() {
        let cases = [
            (vec![Some(1), Some(2)], vec![Some(1), Some(2)], false),
            (vec![Some(1), Some(2)], vec![Some(1), None], false),
            (vec![Some(1), Some(2)], vec![Some(1), Some(3)], true),
            (vec![None, Some(2)], vec![Some(1), None], false),
        ];
        for (first, second, expected) in cases {
            let mut tally = Tally { orders: vec![first.clone()], ..Tally::default() };
            tally.add(Tally { orders: vec![second.clone()], ..Tally::default() });
            assert_eq!(tally.orders_differ(), expected, "{first:?} {second:?}");
        }
    }
}
