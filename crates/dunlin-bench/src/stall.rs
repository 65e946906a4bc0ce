//! `dunlin-bench stall`: some clients stop reading. What becomes of them, and do others notice?

use std::{collections::BTreeMap, fmt, process::ExitCode, time::Duration};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::{
    clock,
    load::{Pace, Plan},
    payload::Stamp,
    report::{self, Latency, Report, counts, mebibytes},
    run,
    target::Servers,
};

/// Arguments of `dunlin-bench stall`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    servers: Servers,
    /// Connections, the stalled ones included
    #[arg(long, default_value_t = 2000)]
    connections: usize,
    /// How many stop reading: a number, or a share such as 1%
    #[arg(long, default_value = "1%")]
    stalled: String,
    /// Messages to publish in each of the two phases
    #[arg(long, default_value_t = 20_000)]
    messages: u32,
    /// Bytes per message
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages per second
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Two phases compared: everybody reads, then some do not.
#[derive(Debug, Serialize)]
pub(crate) struct Stall {
    /// How many stopped reading.
    pub(crate) stalled: usize,
    /// How they ended once they read again: by close code, or `still open`.
    pub(crate) endings: BTreeMap<String, u64>,
    /// The p99 of those who read on, second phase against first.
    pub(crate) p99_ratio: f64,
    /// The most resident bytes of all watched servers in the second phase.
    pub(crate) resident_bytes_peak: u64,
    /// The same in the first phase.
    pub(crate) resident_bytes_peak_before: u64,
    /// The phase in which everybody reads.
    pub(crate) before: Report,
    /// The phase in which some do not.
    pub(crate) during: Report,
}

/// Runs both phases; exit code 1 when those who read on were harmed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let stalled = number_of(&args.stalled, args.connections)?;
    ensure!(args.size >= Stamp::BYTES, "--size must be at least {}", Stamp::BYTES);
    ensure!(stalled < args.connections, "somebody must read on");
    ensure!(args.rate > 0.0, "--rate must be above 0");
    let plan = Plan {
        publishers: 1,
        stalled,
        size: args.size,
        pace: Pace::Rate(args.rate),
        measured: Duration::try_from_secs_f64(f64::from(args.messages) / args.rate)?,
        pids: args.servers.pids.clone(),
        ..Plan::new(args.servers.urls.clone(), args.connections)
    };
    let stall = measure(&plan)?;
    report::print(&stall, args.json)?;
    Ok(report::exit_code(stall.before.is_clean() && stall.during.is_clean()))
}

/// Runs a plan without its stalled connections, then with them.
pub(crate) fn measure(plan: &Plan) -> Result<Stall> {
    let before = run::run(&Plan { stalled: 0, ..plan.clone() }, 1)?;
    let during = run::run(&Plan { run: clock::now() as u32, ..plan.clone() }, 1)?;
    let peak = |report: &Report| report.servers.iter().map(|one| one.resident_bytes_peak).sum();
    Ok(Stall {
        stalled: plan.stalled,
        endings: during.stalled.clone(),
        p99_ratio: during.latency_ms.p99 / before.latency_ms.p99,
        resident_bytes_peak: peak(&during),
        resident_bytes_peak_before: peak(&before),
        before,
        during,
    })
}

/// `20` or `1%` of the connections; at least one.
fn number_of(text: &str, connections: usize) -> Result<usize> {
    let share = text.strip_suffix('%').map(str::parse::<f64>);
    match (share, text.parse::<usize>()) {
        (Some(Ok(percent)), _) if (0.0..=100.0).contains(&percent) => {
            Ok(((connections as f64 * percent / 100.0) as usize).max(1))
        }
        (None, Ok(number)) => Ok(number.max(1)),
        _ => bail!("--stalled wants a number or a share such as 1%, not {text}"),
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "everybody reads\n\n{}", self.before)?;
        writeln!(out, "{} stop reading\n\n{}", self.stalled, self.during)?;
        let p99 = |Latency { p99, .. }: Latency| p99;
        writeln!(
            out,
            "p99 of the others {:.2} ms, {:.2} ms before: ratio {:.2}",
            p99(self.during.latency_ms),
            p99(self.before.latency_ms),
            self.p99_ratio
        )?;
        writeln!(out, "stalled ones ended: {}", counts(&self.endings))?;
        if self.resident_bytes_peak > 0 {
            writeln!(
                out,
                "peak memory {}, {} before",
                mebibytes(self.resident_bytes_peak),
                mebibytes(self.resident_bytes_peak_before)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stalled_are_a_number_or_a_share() {
        for (text, expected) in [("1%", 20), ("0.01%", 1), ("100%", 2000), ("7", 7), ("0", 1)] {
            assert_eq!(number_of(text, 2000).unwrap(), expected, "{text}");
        }
        for text in ["", "%", "101%", "-1", "NaN%", "1.5"] {
            assert!(number_of(text, 2000).is_err(), "{text}");
        }
    }
}
