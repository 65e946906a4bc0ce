//! The rows about centrifuge: fan-out of a channel with history, idle connections with one
//! subscription.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};

use super::{
    fan_out::{FAN_OUT, P99_BAR, Programs, in_turns, plan},
    progress,
    scale::Scale,
    table::{Section, at_most},
};
use crate::{
    idle,
    load::{Dialect, Plan},
    report::counts,
    server::Starter,
};

/// One channel with history, one node, memory broker: every size of `scale`.
pub(super) fn fan_out(starter: &Starter, scale: &Scale) -> Result<Section> {
    let title = "Fan-out with history: one centrifuge channel (JSON), one node, memory broker, one \
                 shard, 128 bytes";
    let mut section = Section::new(title.to_owned(), &FAN_OUT);
    let config = Config::write()?;
    for &connections in &scale.connections {
        for &window in &scale.windows {
            progress(&format!("history: {connections} connections, window {window}"));
            let plan =
                Plan { dialect: Dialect::CentrifugeJson, ..plan(scale, connections, None, window) };
            let programs = Programs {
                floor: &|| starter.floor(&["--centrifuge"]),
                nodes: &|| Ok(vec![starter.dunlin(&["--config", config.path()?])?]),
            };
            let turns = in_turns(scale, &plan, &programs)?;
            let mut row = vec![connections.to_string(), window.to_string()];
            row.extend(turns.cells(cpu_bar(window), Some(P99_BAR)));
            section.row(row, turns.is_clean());
        }
    }
    Ok(section)
}

/// Idle connections, all subscribed to one channel.
pub(super) fn subscribed(starter: &Starter, scale: &Scale) -> Result<Section> {
    let seconds = scale.idle_seconds;
    let connections = scale.idle_connections;
    let title = format!(
        "Idle: {connections} centrifuge connections with one subscription each, {seconds} s"
    );
    let head = &["KiB RSS each", "CPU µs per connection and second", "pings", "closed"];
    let mut section = Section::new(title, head);
    progress("idle and subscribed");
    let config = Config::write()?;
    let server = starter.dunlin(&["--config", config.path()?])?;
    let dialect = Dialect::CentrifugeJson;
    let plan = Plan {
        dialect,
        measured: Duration::from_secs_f64(seconds),
        pids: vec![server.pid()],
        ..Plan::new(vec![server.target(dialect)], connections)
    };
    let idle = idle::measure(&plan, 1)?;
    let memory = idle.resident_bytes_per_connection.unwrap_or(f64::NAN) / 1024.0;
    let row = vec![
        at_most(memory, SUBSCRIBED_KIB_BAR),
        format!("{:.2}", idle.cpu_us_per_connection_second.unwrap_or(f64::NAN)),
        idle.pings.to_string(),
        counts(&idle.closed),
    ];
    section.row(row, idle.closed.is_empty() && idle.failures.is_empty());
    Ok(section)
}

/// A config file in which every channel has history; removed when dropped.
pub(super) struct Config(PathBuf);

impl Config {
    pub(super) fn write() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("dunlin-bench-{}.toml", std::process::id()));
        fs::write(&path, HISTORY).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> Result<&str> {
        self.0.to_str().context("the directory for temporary files has no readable name")
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What a publication costs more than a plain message: its envelope, and its place in the history.
fn cpu_bar(window: u32) -> f64 {
    match window {
        0..=1 => 1.2,
        2..=4 => 1.3,
        _ => 1.6,
    }
}

const HISTORY: &str = r#"[channel.without_namespace]
history_size = 100
history_ttl = "60s"
force_recovery = true
allow_publish_for_subscriber = true
allow_publish_for_anonymous = true
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true

[client]
allow_anonymous_connect_without_token = true
"#;

const SUBSCRIBED_KIB_BAR: f64 = 3.0;
