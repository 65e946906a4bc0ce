//! What this process has seen so far of the run.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::Tally;
use crate::{
    checker::Checker,
    clock::{self, SECOND},
    connection::Ending,
    histogram,
    open::Failure,
    proc,
    report::by_name,
};

/// Counts and latencies of one process.
pub(crate) struct Seen {
    measuring: bool,
    started_ns: u64,
    started_cpu: Duration,
    generator_cpu: f64,
    /// All deliveries of the run.
    pub(crate) deliveries: u64,
    measured_deliveries: u64,
    latency: Histogram<u64>,
    opened: u64,
    failures: BTreeMap<Failure, u64>,
    /// Pings of the server, all answered.
    pub(crate) pings: u64,
    /// Messages that are none of this run's.
    pub(crate) foreign: u64,
    /// How connections ended that were not stalled.
    pub(crate) closed: BTreeMap<Ending, u64>,
    /// How stalled ones ended.
    pub(crate) stalled: BTreeMap<Ending, u64>,
}

impl Seen {
    pub(crate) fn new(opened: u64, failures: BTreeMap<Failure, u64>) -> Self {
        Self {
            measuring: false,
            started_ns: 0,
            started_cpu: Duration::ZERO,
            generator_cpu: 0.0,
            deliveries: 0,
            measured_deliveries: 0,
            latency: histogram::new(),
            opened,
            failures,
            pings: 0,
            foreign: 0,
            closed: BTreeMap::new(),
            stalled: BTreeMap::new(),
        }
    }

    pub(crate) fn start_measuring(&mut self) -> Result<()> {
        self.measuring = true;
        self.started_ns = clock::now();
        self.started_cpu = proc::cpu_time(std::process::id())?;
        Ok(())
    }

    pub(crate) fn stop_measuring(&mut self) -> Result<()> {
        self.measuring = false;
        let cpu = proc::cpu_time(std::process::id())? - self.started_cpu;
        let elapsed = (clock::now() - self.started_ns) as f64 / SECOND as f64;
        self.generator_cpu = cpu.as_secs_f64() / elapsed;
        Ok(())
    }

    /// Counts a delivery that arrived at `now`.
    #[inline]
    pub(crate) fn delivery(&mut self, now: u64, sent_ns: u64) {
        self.deliveries += 1;
        if self.measuring {
            self.measured_deliveries += 1;
            self.latency.saturating_record(now.saturating_sub(sent_ns));
        }
    }

    /// The end of the run; `sent` as in `Checker::missing`.
    pub(crate) fn into_tally(
        self,
        checker: &Checker,
        sent: &[Option<u32>],
        still_stalled: u64,
    ) -> Tally {
        let mut stalled = by_name(self.stalled);
        if still_stalled > 0 {
            stalled.insert("still open".into(), still_stalled);
        }
        Tally {
            connections: self.opened,
            failures: by_name(self.failures),
            closed: by_name(self.closed),
            stalled,
            pings: self.pings,
            deliveries: self.deliveries,
            measured_deliveries: self.measured_deliveries,
            foreign: self.foreign,
            lost: checker.missing(sent),
            faults: checker.faults(),
            latency: histogram::to_pairs(&self.latency),
            generator_cpu: vec![self.generator_cpu],
            orders: vec![checker.digests()],
        }
    }
}
