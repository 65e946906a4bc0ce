//! `dunlin-bench fanout`: measures and checks a fan-out.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    load::{Dialect, Pace, Plan},
    payload::Stamp,
    report, run,
    target::Servers,
};

/// Arguments of `dunlin-bench fanout`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    servers: Servers,
    /// What to speak [default: by the path of the first URL]
    #[arg(long, value_enum)]
    dialect: Option<Dialect>,
    /// Connections to open, all targets together
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Spread the connections over this many channels, at <url path>/bench-0 and so on
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    channels: Option<u32>,
    /// Connections that publish [default: one per channel]
    #[arg(long)]
    publishers: Option<usize>,
    /// Bytes per message
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Closed loop: messages each publisher keeps on their way; the next one goes out when one has
    /// reached every subscriber of its channel
    #[arg(long, default_value_t = 1, conflicts_with = "rate")]
    window: u32,
    /// Open loop: messages per second, all publishers together
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds to publish before measuring
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Load processes; the first one publishes and waits for its own subscribers, the others check
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with 0 even if the server ended connections, as when a node is killed: what the others
    /// get must still be right
    #[arg(long)]
    allow_closed: bool,
    /// Exit with 0 whatever was wrong with connections and deliveries
    #[arg(long)]
    allow_loss: bool,
}

/// Runs the load; exit code 1 when something was wrong with the deliveries.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let report = run::run(&args.plan()?, args.processes)?;
    report::print(&report, args.json)?;
    let right = if args.allow_closed { report.verified.is_clean() } else { report.is_clean() };
    Ok(report::exit_code(args.allow_loss || right))
}

impl Args {
    fn plan(&self) -> Result<Plan> {
        let channels = self.channels.unwrap_or(1) as usize;
        ensure!(self.size >= Stamp::BYTES, "--size must be at least {}", Stamp::BYTES);
        ensure!(channels <= self.connections, "--channels must not exceed --connections");
        ensure!(self.rate.is_none_or(|rate| rate > 0.0), "--rate must be above 0");
        let plan = Plan::new(self.servers.urls.clone(), self.connections);
        Ok(Plan {
            dialect: self.dialect.unwrap_or(plan.dialect),
            channels: self.channels,
            publishers: self.publishers.unwrap_or(channels),
            size: self.size,
            pace: self.rate.map_or(Pace::Window(self.window), Pace::Rate),
            warmup: Duration::try_from_secs_f64(self.warmup)?,
            measured: Duration::try_from_secs_f64(self.seconds)?,
            pids: self.servers.pids.clone(),
            ..plan
        })
    }
}
