//! The rows about clients rather than messages: idle ones, a storm of new ones, ones that stall.

use std::time::Duration;

use anyhow::Result;

use super::{
    progress,
    scale::Scale,
    table::{Section, at_least, at_most, met},
};
use crate::{
    connect, idle,
    load::{Dialect, Pace, Plan},
    report::{counts, mebibytes},
    server::{Server, Starter},
    stall,
};

/// Connections that do nothing but answer pings.
pub(super) fn idle(starter: &Starter, scale: &Scale) -> Result<Section> {
    let seconds = scale.idle_seconds;
    let title = format!("Idle: {} plain connections, {seconds} s", scale.idle_connections);
    let head = &["server", "KiB RSS each", "CPU µs per connection and second", "pings", "closed"];
    let mut section = Section::new(title, head);
    for (name, server, judged) in both(starter)? {
        progress(&format!("idle: {name}"));
        let plan = Plan {
            measured: Duration::from_secs_f64(seconds),
            pids: vec![server.pid()],
            ..Plan::new(vec![server.target(Dialect::Plain)], scale.idle_connections)
        };
        let idle = idle::measure(&plan, 1)?;
        let memory = idle.resident_bytes_per_connection.unwrap_or(f64::NAN) / 1024.0;
        let cpu = idle.cpu_us_per_connection_second.unwrap_or(f64::NAN);
        let figure = |value: f64, bar: f64| {
            if judged { at_most(value, bar) } else { format!("{value:.2}") }
        };
        let row = vec![
            name.to_owned(),
            figure(memory, IDLE_KIB_BAR),
            figure(cpu, IDLE_CPU_BAR),
            idle.pings.to_string(),
            counts(&idle.closed),
        ];
        section.row(row, idle.closed.is_empty() && idle.failures.is_empty());
    }
    Ok(section)
}

/// A storm of new connections.
pub(super) fn connect(starter: &Starter, scale: &Scale) -> Result<Section> {
    let title = format!("Connect storm: {} connections, 256 at a time", scale.storm_connections);
    let mut section = Section::new(
        title,
        &[
            "server",
            "upgrades per second",
            "per second of one core",
            "CPU µs per upgrade",
            "handshake ms: p50",
            "p99",
            "failures",
            "load generator",
        ],
    );
    for (name, server, judged) in both(starter)? {
        progress(&format!("connect storm: {name}"));
        let connections = scale.storm_connections;
        let storm =
            connect::measure(&[server.target(Dialect::Plain)], &[server.pid()], connections, 256)?;
        let per_core = storm.upgrades_per_cpu_second.unwrap_or(f64::NAN);
        let row = vec![
            name.to_owned(),
            format!("{:.0}", storm.upgrades_per_second),
            if judged { at_least(per_core, STORM_BAR) } else { format!("{per_core:.0}") },
            format!("{:.1}", storm.cpu_us_per_upgrade.unwrap_or(f64::NAN)),
            format!("{:.1}", storm.p50_ms),
            format!("{:.1}", storm.p99_ms),
            counts(&storm.failures),
            format!("{:.0} %", storm.generator_cpu * 100.0),
        ];
        section.row(row, storm.failures.is_empty());
    }
    Ok(section)
}

/// One in a hundred clients stops reading.
pub(super) fn stall(starter: &Starter, scale: &Scale) -> Result<Section> {
    let (connections, messages) = (scale.stall_connections, scale.stall_messages);
    let stalled = (connections / 100).max(1);
    let title = format!(
        "Stalled readers: {stalled} of {connections} stop reading while {messages} messages of \
         1 KiB flow, {} per second",
        scale.stall_rate
    );
    let mut section = Section::new(
        title,
        &[
            "p99 ms of the others: all read",
            "some stalled",
            "ratio",
            "the stalled ended by",
            "peak memory: all read",
            "some stalled",
            "growth per stalled client in MiB",
            "lost / duplicated / out of order",
        ],
    );
    progress("stalled readers");
    let server = starter.dunlin(&[])?;
    let plan = Plan {
        publishers: 1,
        stalled,
        size: 1024,
        pace: Pace::Rate(scale.stall_rate),
        measured: Duration::from_secs_f64(f64::from(messages) / scale.stall_rate),
        pids: vec![server.pid()],
        ..Plan::new(vec![server.target(Dialect::Plain)], connections)
    };
    let stall = stall::measure(&plan)?;
    let growth = stall.resident_bytes_peak as f64 - stall.resident_bytes_peak_before as f64;
    let all_ended = !stall.endings.contains_key("still open");
    let runs = [stall.before, stall.during];
    let row = vec![
        format!("{:.1}", runs[0].latency_ms.p99),
        format!("{:.1}", runs[1].latency_ms.p99),
        at_most(stall.p99_ratio, STALL_P99_BAR),
        format!("{} ({})", counts(&stall.endings), met(all_ended)),
        mebibytes(stall.resident_bytes_peak_before),
        mebibytes(stall.resident_bytes_peak),
        at_most(growth / stalled as f64 / (1 << 20) as f64, STALL_MIB_BAR),
        super::table::faults(&runs),
    ];
    section.row(row, runs.iter().all(crate::report::Report::is_clean));
    Ok(section)
}

/// Floor and Dunlin, the latter to be judged. Both run from here on, but only one is loaded.
fn both(starter: &Starter) -> Result<[(&'static str, Server, bool); 2]> {
    Ok([("floor", starter.floor(&[])?, false), ("Dunlin", starter.dunlin(&[])?, true)])
}

const IDLE_KIB_BAR: f64 = 2.0;
const IDLE_CPU_BAR: f64 = 0.5;
const STORM_BAR: f64 = 10_000.0;
const STALL_P99_BAR: f64 = 2.0;
/// The backlog bound of 1 MiB, twice: a buffer that grows by doubling may be half empty.
const STALL_MIB_BAR: f64 = 2.0;
