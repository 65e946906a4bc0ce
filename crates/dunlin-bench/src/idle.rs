//! `dunlin-bench idle`: what connections cost that do nothing but answer pings.

use std::{collections::BTreeMap, fmt, process::ExitCode, time::Duration};

use anyhow::Result;
use serde::Serialize;

use crate::{
    load::{Dialect, Plan},
    report::{self, counts},
    run,
    target::Servers,
};

/// Arguments of `dunlin-bench idle`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    servers: Servers,
    /// What to speak [default: by the path of the first URL]
    #[arg(long, value_enum)]
    dialect: Option<Dialect>,
    /// Connections to hold
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Seconds to hold them; longer than the server's ping interval, to see pings
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Load processes
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What held connections cost.
#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) connections: u64,
    pub(crate) seconds: f64,
    /// Pings of the server, all answered.
    pub(crate) pings: u64,
    /// Growth of the watched servers' resident memory.
    pub(crate) resident_bytes_per_connection: Option<f64>,
    /// CPU time of the watched servers, in microseconds per connection and second.
    pub(crate) cpu_us_per_connection_second: Option<f64>,
    /// Connections that could not be opened, by kind.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Connections the server ended; there should be none.
    pub(crate) closed: BTreeMap<String, u64>,
}

/// Holds the connections; exit code 1 when one could not be opened or was closed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let plan = Plan::new(args.servers.urls.clone(), args.connections);
    let plan = Plan {
        dialect: args.dialect.unwrap_or(plan.dialect),
        measured: Duration::try_from_secs_f64(args.seconds)?,
        pids: args.servers.pids.clone(),
        ..plan
    };
    let idle = measure(&plan, args.processes)?;
    report::print(&idle, args.json)?;
    Ok(report::exit_code(idle.failures.is_empty() && idle.closed.is_empty()))
}

/// Holds the connections of a plan in which nobody publishes.
pub(crate) fn measure(plan: &Plan, processes: usize) -> Result<Idle> {
    let report = run::run(plan, processes)?;
    Ok(Idle {
        connections: report.connections,
        seconds: report.seconds,
        pings: report.pings,
        resident_bytes_per_connection: report.server_resident_bytes_per_connection,
        cpu_us_per_connection_second: report.server_cpu_us_per_connection_second,
        failures: report.failures,
        closed: report.closed,
    })
}

impl fmt::Display for Idle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "load         {} idle connections, {:.1} s", self.connections, self.seconds)?;
        writeln!(out, "pings        {} answered", self.pings)?;
        writeln!(out, "not opened   {}", counts(&self.failures))?;
        writeln!(out, "closed       {}", counts(&self.closed))?;
        if let Some(cpu) = self.cpu_us_per_connection_second {
            writeln!(out, "cpu          {cpu:.3} µs per connection and second")?;
        }
        if let Some(bytes) = self.resident_bytes_per_connection {
            writeln!(out, "memory       {:.2} KiB per connection", bytes / 1024.0)?;
        }
        Ok(())
    }
}
