//! The fan-out rows: one channel on one node, one channel on two nodes, many small channels.

use std::time::Duration;

use anyhow::Result;

use super::{
    progress,
    scale::Scale,
    table::{Section, at_most, faults, generator, median},
};
use crate::{
    load::{Pace, Plan},
    report::Report,
    run,
    server::{Server, Starter},
};

/// One channel, one node, memory broker: every size of `scale`.
pub(super) fn one_node(starter: &Starter, scale: &Scale) -> Result<Section> {
    let title = "Fan-out: one channel, one node, memory broker, one shard, 128 bytes";
    let mut section = Section::new(title.to_owned(), &FAN_OUT);
    for &connections in &scale.connections {
        for &window in &scale.windows {
            progress(&format!("fan-out: {connections} connections, window {window}"));
            let plan = plan(scale, connections, None, window);
            let turns = in_turns(
                scale,
                &plan,
                &Programs {
                    floor: &|| starter.floor(&[]),
                    nodes: &|| Ok(vec![starter.dunlin(&[])?]),
                },
            )?;
            let mut row = vec![connections.to_string(), window.to_string()];
            row.extend(turns.cells(cpu_bar(window), Some(P99_BAR)));
            section.row(row, turns.is_clean());
        }
    }
    Ok(section)
}

/// One channel on two nodes that share a Redis.
pub(super) fn two_nodes(starter: &Starter, scale: &Scale) -> Result<Section> {
    let connections = scale.node_connections;
    let title = format!(
        "Two nodes over Redis: one channel, {connections} connections and publishers over both, \
         128 bytes; CPU of both nodes"
    );
    let mut section = Section::new(title, &FAN_OUT);
    let Some(redis) = starter.redis()? else {
        return Ok(section.skip("no redis-server found"));
    };
    let url = format!("redis://{}", redis.address);
    for &window in &scale.windows {
        progress(&format!("two nodes: {connections} connections, window {window}"));
        // Publishers on both nodes: only then can the nodes disagree about the order.
        let publishers = if window >= PUBLISHERS { PUBLISHERS } else { 1 };
        let plan = Plan {
            publishers: publishers as usize,
            ..plan(scale, connections, None, window / publishers)
        };
        let turns = in_turns(
            scale,
            &plan,
            &Programs {
                floor: &|| starter.floor(&[]),
                nodes: &|| (0..2).map(|_| starter.dunlin(&["--redis", &url])).collect(),
            },
        )?;
        let mut row = vec![connections.to_string(), window.to_string()];
        row.extend(turns.cells(NODES_CPU_BAR, None));
        section.row(row, turns.is_clean());
    }
    Ok(section)
}

/// Many channels of two subscribers each, one of which publishes.
pub(super) fn many_channels(starter: &Starter, scale: &Scale) -> Result<Section> {
    let connections = scale.channels as usize * 2;
    let title = format!(
        "Many small channels: {connections} connections on {} channels, one message of 128 bytes \
         in flight on each",
        scale.channels
    );
    let mut section = Section::new(title, &CHANNELS);
    let plan = plan(scale, connections, Some(scale.channels), 1);
    let mut row = |broker: &str, bar: f64, nodes: &dyn Fn() -> Result<Vec<Server>>| -> Result<()> {
        progress(&format!("many small channels: {broker}"));
        let floor = &|| starter.floor(&["--channels"]);
        let turns = in_turns(scale, &plan, &Programs { floor, nodes })?;
        let rate = |report: &Report| report.publications_per_second;
        let mut row = vec![broker.to_owned()];
        row.extend([&turns.floor, &turns.dunlin].map(|runs| format!("{:.0}", median(runs, rate))));
        row.extend(turns.cells(bar, None));
        section.row(row, turns.is_clean());
        Ok(())
    };
    row("memory, one node", CHANNELS_CPU_BAR, &|| Ok(vec![starter.dunlin(&[])?]))?;
    let Some(redis) = starter.redis()? else {
        return Ok(section.skip("the row with Redis: no redis-server found"));
    };
    let url = format!("redis://{}", redis.address);
    row("Redis, two nodes", CHANNELS_REDIS_CPU_BAR, &|| {
        (0..2).map(|_| starter.dunlin(&["--redis", &url])).collect()
    })?;
    Ok(section)
}

/// How to start what is compared.
pub(super) struct Programs<'a> {
    pub(super) floor: &'a dyn Fn() -> Result<Server>,
    pub(super) nodes: &'a dyn Fn() -> Result<Vec<Server>>,
}

/// The runs of one row.
pub(super) struct Turns {
    floor: Vec<Report>,
    dunlin: Vec<Report>,
}

/// Floor and nodes in turns.
pub(super) fn in_turns(scale: &Scale, plan: &Plan, programs: &Programs<'_>) -> Result<Turns> {
    let (mut floor, mut dunlin) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        // A fresh process each time: no run inherits the memory or the backlog of another.
        floor.push(measure(plan, &[(programs.floor)()?])?);
        dunlin.push(measure(plan, &(programs.nodes)()?)?);
    }
    Ok(Turns { floor, dunlin })
}

fn measure(plan: &Plan, servers: &[Server]) -> Result<Report> {
    let plan = Plan {
        targets: servers.iter().map(|server| server.target(plan.dialect)).collect(),
        pids: servers.iter().map(Server::pid).collect(),
        run: crate::clock::now() as u32,
        ..plan.clone()
    };
    run::run(&plan, 1)
}

/// A closed loop on one channel or several.
pub(super) fn plan(scale: &Scale, connections: usize, channels: Option<u32>, window: u32) -> Plan {
    Plan {
        channels,
        publishers: channels.unwrap_or(1) as usize,
        pace: Pace::Window(window),
        measured: Duration::from_secs_f64(scale.seconds),
        ..Plan::new(Vec::new(), connections)
    }
}

impl Turns {
    pub(super) fn is_clean(&self) -> bool {
        self.floor.iter().chain(&self.dunlin).all(Report::is_clean)
    }

    /// CPU and p99 of both, their ratios judged, faults, and how busy we were ourselves.
    pub(super) fn cells(&self, cpu_bar: f64, p99_bar: Option<f64>) -> Vec<String> {
        let cpu = |report: &Report| report.server_cpu_us_per_delivery.unwrap_or(f64::NAN);
        let p99 = |report: &Report| report.latency_ms.p99;
        let [floor_cpu, dunlin_cpu] = [&self.floor, &self.dunlin].map(|runs| median(runs, cpu));
        let [floor_p99, dunlin_p99] = [&self.floor, &self.dunlin].map(|runs| median(runs, p99));
        let p99_ratio = dunlin_p99 / floor_p99;
        vec![
            format!("{floor_cpu:.3}"),
            format!("{dunlin_cpu:.3}"),
            at_most(dunlin_cpu / floor_cpu, cpu_bar),
            format!("{floor_p99:.1}"),
            format!("{dunlin_p99:.1}"),
            p99_bar.map_or_else(|| format!("{p99_ratio:.2}"), |bar| at_most(p99_ratio, bar)),
            faults(&self.dunlin),
            [&self.floor, &self.dunlin].map(|runs| generator(runs)).join(" / "),
        ]
    }
}

/// The fewer messages share a write, the less there is to save on, and the closer we must be.
fn cpu_bar(window: u32) -> f64 {
    match window {
        0..=1 => 1.15,
        2..=4 => 1.25,
        _ => 1.5,
    }
}

const PUBLISHERS: u32 = 4;
pub(super) const P99_BAR: f64 = 1.5;
const NODES_CPU_BAR: f64 = 2.0;
const CHANNELS_CPU_BAR: f64 = 1.5;
const CHANNELS_REDIS_CPU_BAR: f64 = 3.0;

pub(super) const FAN_OUT: [&str; 10] = [
    "connections",
    "window",
    "CPU µs per delivery: floor",
    "Dunlin",
    "ratio",
    "p99 ms: floor",
    "Dunlin",
    "ratio",
    "lost / duplicated / out of order",
    "load generator: floor / Dunlin",
];

const CHANNELS: [&str; 11] = [
    "broker",
    "publications/s: floor",
    "Dunlin",
    "CPU µs per delivery: floor",
    "Dunlin",
    "ratio",
    "p99 ms: floor",
    "Dunlin",
    "ratio",
    "lost / duplicated / out of order",
    "load generator: floor / Dunlin",
];
