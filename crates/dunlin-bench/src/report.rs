//! What a run found, as JSON and as text for people.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    histogram,
    load::{Pace, Plan},
    run::Outcome,
    watch::ServerUse,
};

/// Everything a run found. Times and CPU are about the measured part, faults about all of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Connections that were opened.
    pub(crate) connections: u64,
    pub(crate) channels: u32,
    pub(crate) publishers: usize,
    /// Bytes per message.
    pub(crate) size: usize,
    pub(crate) pace: Pace,
    /// How long was measured.
    pub(crate) seconds: f64,

    pub(crate) publications_per_second: f64,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_second: f64,
    pub(crate) latency_ms: Latency,

    pub(crate) verified: Verified,
    /// Connections that could not be opened, by kind.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Connections the server ended, by close code or kind.
    pub(crate) closed: BTreeMap<String, u64>,
    /// How connections that had stopped reading ended.
    pub(crate) stalled: BTreeMap<String, u64>,
    /// Pings of the server, all answered.
    pub(crate) pings: u64,

    /// CPU time of all watched servers per delivery, in microseconds.
    pub(crate) server_cpu_us_per_delivery: Option<f64>,
    /// CPU time of all watched servers per connection and second, in microseconds.
    pub(crate) server_cpu_us_per_connection_second: Option<f64>,
    /// Growth of the resident memory of all watched servers since before the first connection.
    pub(crate) server_resident_bytes_per_connection: Option<f64>,
    pub(crate) servers: Vec<Server>,
    /// CPU time of each load process as a share of one core.
    pub(crate) generator_cpu: Vec<f64>,
}

/// Milliseconds from send (open loop: from when it was due) to delivery.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// What the checker found in all deliveries of the run, warm-up included.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Verified {
    pub(crate) deliveries: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) out_of_order: u64,
    /// On another channel than published to.
    pub(crate) misrouted: u64,
    /// None of this run's messages.
    pub(crate) foreign: u64,
    /// Load processes saw different orders.
    pub(crate) orders_differ: bool,
}

/// What one server process used.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) pid: u32,
    pub(crate) cpu_us_per_delivery: f64,
    /// CPU time as a share of one core.
    pub(crate) cpu: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_bytes_before: u64,
    pub(crate) resident_bytes_peak: u64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, outcome: Outcome) -> Self {
        let Outcome { tally, servers, elapsed, publications } = outcome;
        let seconds = elapsed.as_secs_f64();
        let deliveries = tally.measured_deliveries;
        let server = |used: &ServerUse| Server {
            pid: used.pid,
            cpu_us_per_delivery: used.cpu.as_secs_f64() * 1e6 / deliveries as f64,
            cpu: used.cpu.as_secs_f64() / seconds,
            resident_bytes: used.resident,
            resident_bytes_before: used.resident_before,
            resident_bytes_peak: used.resident_peak,
        };
        let servers: Vec<Server> = servers.iter().map(server).collect();
        let sum = |of: fn(&Server) -> f64| {
            (!servers.is_empty()).then(|| servers.iter().map(of).sum::<f64>())
        };
        let growth = |one: &Server| one.resident_bytes as f64 - one.resident_bytes_before as f64;
        let connections = tally.connections.max(1) as f64;
        Self {
            connections: tally.connections,
            channels: plan.channel_count(),
            publishers: plan.publishers,
            size: plan.size,
            pace: plan.pace,
            seconds,
            publications_per_second: publications as f64 / seconds,
            deliveries,
            deliveries_per_second: deliveries as f64 / seconds,
            latency_ms: Latency::new(&tally.latency),
            verified: Verified {
                deliveries: tally.deliveries,
                lost: tally.lost,
                duplicated: tally.faults.duplicated,
                out_of_order: tally.faults.out_of_order,
                misrouted: tally.faults.misrouted,
                foreign: tally.foreign,
                orders_differ: tally.orders_differ(),
            },
            failures: tally.failures,
            closed: tally.closed,
            stalled: tally.stalled,
            pings: tally.pings,
            server_cpu_us_per_delivery: sum(|server| server.cpu_us_per_delivery)
                .filter(|_| deliveries > 0),
            server_cpu_us_per_connection_second: sum(|server| server.cpu)
                .map(|cpu| cpu * 1e6 / connections),
            server_resident_bytes_per_connection: sum(growth).map(|growth| growth / connections),
            servers,
            generator_cpu: tally.generator_cpu,
        }
    }

    /// Whether every connection lived and every delivery came once, in order, where it belongs.
    pub(crate) fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.closed.is_empty() && self.verified.is_clean()
    }

    /// A sentence when a load process was so busy that it may have been what was measured.
    pub(crate) fn warning(&self) -> Option<String> {
        let busiest = self.generator_cpu.iter().copied().fold(0.0, f64::max);
        (busiest > BUSY).then(|| {
            format!(
                "warning: the load generator used {:.0} % of a core, it may be the bottleneck: \
                 try --processes {}",
                busiest * 100.0,
                self.generator_cpu.len() + 1
            )
        })
    }
}

impl Verified {
    /// Whether every delivery came once, in order, where it belongs.
    pub(crate) fn is_clean(&self) -> bool {
        let Self { lost, duplicated, out_of_order, misrouted, foreign, .. } = *self;
        lost + duplicated + out_of_order + misrouted + foreign == 0 && !self.orders_differ
    }
}

impl Latency {
    fn new(pairs: &[(u64, u64)]) -> Self {
        let histogram = histogram::from_pairs(pairs);
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1e6 }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match self.pace {
            Pace::Window(window) => format!("window {window}"),
            Pace::Rate(rate) => format!("{rate} per second"),
        };
        writeln!(
            out,
            "load         {} connections, {} channels, {} publishers, {} bytes, {pace}, {:.1} s",
            self.connections, self.channels, self.publishers, self.size, self.seconds
        )?;
        writeln!(
            out,
            "deliveries   {} ({:.0} per second, {:.0} publications per second)",
            self.deliveries, self.deliveries_per_second, self.publications_per_second
        )?;
        let Latency { p50, p99, p999, max } = self.latency_ms;
        writeln!(
            out,
            "latency      p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms"
        )?;
        let checked = &self.verified;
        writeln!(
            out,
            "verified     {} deliveries: {} lost, {} duplicated, {} out of order, {} misrouted, \
             {} foreign{}",
            checked.deliveries,
            checked.lost,
            checked.duplicated,
            checked.out_of_order,
            checked.misrouted,
            checked.foreign,
            if checked.orders_differ { ", orders differ between load processes" } else { "" }
        )?;
        writeln!(out, "not opened   {}", counts(&self.failures))?;
        writeln!(out, "closed       {}", counts(&self.closed))?;
        if !self.stalled.is_empty() {
            writeln!(out, "stalled      {}", counts(&self.stalled))?;
        }
        self.write_servers(out)?;
        write!(out, "generator   ")?;
        for share in &self.generator_cpu {
            write!(out, " {:.0} %", share * 100.0)?;
        }
        writeln!(out, " of a core")?;
        self.warning().map_or(Ok(()), |warning| writeln!(out, "{warning}"))
    }
}

impl Report {
    fn write_servers(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            writeln!(
                out,
                "server       pid {}: {:.3} µs CPU per delivery ({:.0} % of a core), \
                 {} resident, peak {}",
                server.pid,
                server.cpu_us_per_delivery,
                server.cpu * 100.0,
                mebibytes(server.resident_bytes),
                mebibytes(server.resident_bytes_peak),
            )?;
        }
        if let Some(cpu) = self.server_cpu_us_per_delivery {
            writeln!(out, "cpu          {cpu:.3} µs per delivery, all servers")?;
        }
        if let Some(bytes) = self.server_resident_bytes_per_connection {
            writeln!(out, "memory       {:.2} KiB per connection", bytes / 1024.0)?;
        }
        Ok(())
    }
}

/// Prints a report to stdout, as JSON or for people.
pub(crate) fn print(report: &(impl fmt::Display + Serialize), json: bool) -> Result<()> {
    let mut out = io::stdout();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

/// 0 when what was measured was right, else 1.
pub(crate) fn exit_code(right: bool) -> ExitCode {
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Counts under the names of their kinds.
pub(crate) fn by_name(counts: BTreeMap<impl ToString, u64>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(kind, count)| (kind.to_string(), count)).collect()
}

/// `1013: 20, end of stream: 1`, or `none`.
pub(crate) fn counts(by_kind: &BTreeMap<String, u64>) -> String {
    if by_kind.is_empty() {
        return "none".to_owned();
    }
    let list: Vec<String> =
        by_kind.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
    list.join(", ")
}

/// Bytes as people read them.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// From this share of a core on the load generator is suspected.
const BUSY: f64 = 0.9;
