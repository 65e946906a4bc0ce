//! `dunlin-bench connect`: a storm of new connections.

use std::{collections::BTreeMap, fmt, process::ExitCode};

use anyhow::Result;
use serde::Serialize;

use crate::{
    open, proc,
    report::{self, by_name, counts},
    target::{Servers, Target},
};

/// Arguments of `dunlin-bench connect`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    servers: Servers,
    /// Connections to open; all stay open until the end
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Connections on their way at the same time
    #[arg(long, default_value_t = 256)]
    concurrency: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How the storm went.
#[derive(Debug, Serialize)]
pub(crate) struct Storm {
    pub(crate) upgraded: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) seconds: f64,
    pub(crate) upgrades_per_second: f64,
    /// From `connect` to the complete 101.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU time of the watched servers.
    pub(crate) cpu_us_per_upgrade: Option<f64>,
    /// What one core of the server's CPU time is good for.
    pub(crate) upgrades_per_cpu_second: Option<f64>,
    /// CPU time of this process as a share of one core.
    pub(crate) generator_cpu: f64,
}

/// Opens the connections; exit code 1 when one failed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Servers { urls, pids } = &args.servers;
    let storm = measure(urls, pids, args.connections, args.concurrency)?;
    report::print(&storm, args.json)?;
    Ok(report::exit_code(storm.failures.is_empty()))
}

/// Opens the connections, `concurrency` at a time, spread over the targets.
pub(crate) fn measure(
    targets: &[Target],
    pids: &[u32],
    connections: usize,
    concurrency: usize,
) -> Result<Storm> {
    open::allow_connections(connections)?;
    let own = std::process::id();
    let (cpu, own_cpu) = (cpu_seconds(pids)?, cpu_seconds(&[own])?);
    let wanted = (0..connections).map(|number| {
        let target = &targets[number % targets.len()];
        (number, target, target.path.clone())
    });
    let opening = open::open(wanted, concurrency)?;
    let (cpu, own_cpu) = (cpu_seconds(pids)? - cpu, cpu_seconds(&[own])? - own_cpu);

    let upgraded = opening.opened.len() as f64;
    let seconds = opening.elapsed.as_secs_f64();
    let watched = !pids.is_empty();
    Ok(Storm {
        upgraded: opening.opened.len() as u64,
        failures: by_name(opening.failures),
        seconds,
        upgrades_per_second: upgraded / seconds,
        p50_ms: opening.latency.value_at_quantile(0.5) as f64 / 1e6,
        p99_ms: opening.latency.value_at_quantile(0.99) as f64 / 1e6,
        cpu_us_per_upgrade: watched.then_some(cpu * 1e6 / upgraded),
        upgrades_per_cpu_second: watched.then_some(upgraded / cpu),
        generator_cpu: own_cpu / seconds,
    })
}

fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|&pid| Ok(proc::cpu_time(pid)?.as_secs_f64())).sum()
}

impl fmt::Display for Storm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "upgrades     {} in {:.2} s: {:.0} per second",
            self.upgraded, self.seconds, self.upgrades_per_second
        )?;
        writeln!(out, "failures     {}", counts(&self.failures))?;
        writeln!(out, "handshake    p50 {:.2} ms, p99 {:.2} ms", self.p50_ms, self.p99_ms)?;
        if let (Some(cpu), Some(per_core)) = (self.cpu_us_per_upgrade, self.upgrades_per_cpu_second)
        {
            writeln!(
                out,
                "cpu          {cpu:.1} µs per upgrade: {per_core:.0} per core and second"
            )?;
        }
        writeln!(out, "generator    {:.0} % of a core", self.generator_cpu * 100.0)
    }
}
