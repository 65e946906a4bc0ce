//! The server under attack: started for one pattern, looked at from outside.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{probes::get, tokens};
use crate::{
    clock::{self, SECOND},
    proc,
    server::{Server, Starter},
};

/// A node with its configuration. Dropped, it ends.
pub(super) struct Ground {
    pub(super) server: Server,
    _folder: tempfile::TempDir,
}

/// What `/metrics` says of all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) accepted: u64,
    pub(super) active: u64,
    pub(super) closed: u64,
    pub(super) panics: u64,
}

impl Ground {
    /// With the memory broker, the defaults, and `settings`, within so much memory.
    pub(super) fn start(
        starter: &Starter,
        settings: &[&str],
        memory_mib: Option<u64>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("dunlin.toml");
        fs::write(&file, configuration())?;
        let file = file.to_str().context("the folder has no readable name")?;
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        // As many shards as there are cores, as in a node that nobody measures.
        let arguments = ["--config", file, "--set", "shards=0"].into_iter().chain(settings);
        let server = starter.dunlin_within(memory_mib, &arguments.collect::<Vec<_>>())?;
        Ok(Self { server, _folder: folder })
    }

    pub(super) fn resident_bytes(&self) -> Result<u64> {
        proc::resident_bytes(self.server.pid())
    }

    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        Ok(proc::cpu_time(self.server.pid())?.as_secs_f64())
    }

    pub(super) fn descriptors(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.server.pid());
        Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count())
    }

    /// What it counts once that adds up, or when it has had its time.
    pub(super) fn settled(&self) -> Result<Counted> {
        let patience = clock::now() + SETTLING_NS;
        loop {
            let counted = Counted::read(&get(self.server.address, "/metrics")?);
            ensure!(counted.accepted > 0, "/metrics counts no connection");
            if counted.add_up() || clock::now() > patience {
                return Ok(counted);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Counted {
    fn read(metrics: &str) -> Self {
        let sum = |name: &str| {
            let behind = metrics.lines().filter_map(|line| line.strip_prefix(name));
            let mine = behind.filter(|rest| rest.starts_with(['{', ' ']));
            let value = |rest: &str| rest.rsplit_once(' ')?.1.parse::<f64>().ok();
            mine.filter_map(value).sum::<f64>() as u64
        };
        Self {
            accepted: sum("dunlin_connections_accepted_total"),
            active: sum("dunlin_connections_active"),
            closed: sum("dunlin_connections_closed_total"),
            panics: sum("dunlin_panics_total"),
        }
    }

    /// Whether every connection is either there or gone.
    pub(super) fn add_up(&self) -> bool {
        self.accepted == self.active + self.closed
    }
}

/// Channels that keep nothing; `kept:` with history, `seen:` with presence. Anybody may do
/// everything in them.
fn configuration() -> String {
    let open = "allow_publish_for_client = true\nallow_publish_for_anonymous = true\n\
                allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n";
    format!(
        "[channel.without_namespace]\n{open}\n\
         [[channel.namespaces]]\nname = \"kept\"\n{open}history_size = 100\nhistory_ttl = \"5m\"\n\
         allow_recovery = true\nallow_positioning = true\nallow_history_for_client = true\n\
         allow_history_for_anonymous = true\n\n\
         [[channel.namespaces]]\nname = \"seen\"\n{open}presence = true\n\
         allow_presence_for_client = true\nallow_presence_for_anonymous = true\n\n\
         [client]\nallow_anonymous_connect_without_token = true\n\n\
         [client.token]\n{}\n\
         [http_api]\nkey = \"known to nobody\"\n",
        tokens::keys()
    )
}

/// Connections that are just ending are counted a moment later.
const SETTLING_NS: u64 = 3 * SECOND;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_over_all_reasons() {
        let metrics = "# HELP dunlin_connections_closed …\n\
                       dunlin_connections_closed_total{code=\"1000\",reason=\"client_left\"} 3\n\
                       dunlin_connections_closed_total{code=\"1002\",reason=\"protocol_error\"} 1\n\
                       dunlin_connections_active 5\n\
                       dunlin_connections_accepted_total 9\n\
                       dunlin_panics_total 0\n";
        let counted = Counted::read(metrics);
        assert_eq!(counted, Counted { accepted: 9, active: 5, closed: 4, panics: 0 });
        assert!(counted.add_up());
        assert!(!Counted { accepted: 10, ..counted }.add_up());
    }
}
