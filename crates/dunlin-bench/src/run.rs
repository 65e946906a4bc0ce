//! One run from the first connection to the report: opens, warms up, measures, drains, adds up.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    clock::{self, nanoseconds},
    load::{Load, Plan, Tally},
    part::{Part, Times},
    report::Report,
    watch::{ServerUse, Watch},
};

/// What the load processes saw and the servers used.
pub(crate) struct Outcome {
    /// Everything counted.
    pub(crate) tally: Tally,
    /// What each watched server used.
    pub(crate) servers: Vec<ServerUse>,
    /// How long was measured.
    pub(crate) elapsed: Duration,
    /// Messages sent while measuring.
    pub(crate) publications: u64,
}

/// Runs `plan` in this process and `processes - 1` others, each with its share of the connections.
pub(crate) fn run(plan: &Plan, processes: usize) -> Result<Report> {
    let share = plan.connections.div_ceil(processes.max(1));
    ensure!(plan.publishers <= share, "more publishers than connections in the first process");
    let mut watch = Watch::new(&plan.pids)?;
    let mut parts = Vec::new();
    for start in (share..plan.connections).step_by(share) {
        let own = start..plan.connections.min(start + share);
        parts.push(Part::start(&Plan { own, ..plan.clone() })?);
    }
    let mut load = Load::open(Plan { own: 0..share.min(plan.connections), ..plan.clone() })?;
    parts.iter_mut().try_for_each(Part::wait_until_ready)?;

    let from = clock::now() + nanoseconds(plan.warmup);
    let until = from + nanoseconds(plan.measured);
    parts.iter_mut().try_for_each(|part| part.tell(&Times { from, until }))?;
    load.warm_up(from)?;
    let published_before = load.published();
    watch.start()?;
    let started = clock::now();
    load.measure(until, || watch.tick())?;
    let elapsed = Duration::from_nanos(clock::now() - started);
    let servers = watch.stop()?;
    let publications = load.published() - published_before;

    let sent = load.sent();
    load.drain(&sent)?;
    load.wake_stalled()?;
    // Asked again: a publisher may have been lost on the way.
    let sent = load.sent();
    parts.iter_mut().try_for_each(|part| part.tell(&sent))?;
    let mut tally = load.finish(&sent);
    for part in parts {
        tally.add(part.finish()?);
    }
    Ok(Report::new(plan, Outcome { tally, servers, elapsed, publications }))
}
