//! What a run is to do, and who does which part of it: connection i's channel, target, process.

use std::{ops::Range, time::Duration};

use serde::{Deserialize, Serialize};

use super::Dialect;
use crate::{clock, target::Target};

/// A load: connections that subscribe by being there, some of which publish.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Where to connect to, at least one.
    pub(crate) targets: Vec<Target>,
    /// What connections speak.
    pub(crate) dialect: Dialect,
    /// Connections of all processes together.
    pub(crate) connections: usize,
    /// The share of this process.
    pub(crate) own: Range<usize>,
    /// Channels below the target's path; `None`: the target's path is the one channel.
    pub(crate) channels: Option<u32>,
    /// The first so many connections publish.
    pub(crate) publishers: usize,
    /// The last so many connections stop reading before the first message.
    pub(crate) stalled: usize,
    /// Bytes per message.
    pub(crate) size: usize,
    /// When the next message goes out.
    pub(crate) pace: Pace,
    /// Publishing before measuring starts.
    pub(crate) warmup: Duration,
    /// Publishing and measuring.
    pub(crate) measured: Duration,
    /// How many connections are opened at the same time.
    pub(crate) concurrency: usize,
    /// Server processes to watch.
    pub(crate) pids: Vec<u32>,
    /// The number that tells this run's messages from others.
    pub(crate) run: u32,
}

/// When a publisher sends its next message.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// Closed loop: each publisher keeps so many messages on their way; one is done when it has
    /// reached every subscriber of its channel.
    Window(u32),
    /// Open loop: so many messages per second, all publishers together, whatever comes back.
    Rate(f64),
}

impl Plan {
    /// So many subscribers of one channel and nobody who publishes; measured for five seconds.
    pub(crate) fn new(targets: Vec<Target>, connections: usize) -> Self {
        Self {
            dialect: targets.first().map_or(Dialect::Plain, Dialect::at),
            targets,
            connections,
            own: 0..connections,
            channels: None,
            publishers: 0,
            stalled: 0,
            size: 128,
            pace: Pace::Window(1),
            warmup: Duration::from_secs(1),
            measured: Duration::from_secs(5),
            concurrency: 64,
            pids: Vec::new(),
            run: clock::now() as u32,
        }
    }

    /// Number of channels, at least one.
    pub(crate) fn channel_count(&self) -> u32 {
        self.channels.unwrap_or(1)
    }

    /// The channel of a connection: neighbours are on different ones.
    pub(crate) fn channel(&self, connection: usize) -> u32 {
        (connection % self.channel_count() as usize) as u32
    }

    /// The target of a connection: the subscribers of one channel are spread over all of them.
    pub(crate) fn target(&self, connection: usize) -> &Target {
        &self.targets[connection / self.channel_count() as usize % self.targets.len()]
    }

    /// The URL path of a connection.
    pub(crate) fn path(&self, connection: usize) -> String {
        let target = self.target(connection);
        if let Some(encoding) = self.dialect.encoding() {
            return encoding.path(&target.path);
        }
        match self.channels {
            Some(_) => target.channel_path(self.channel(connection)),
            None => target.path.clone(),
        }
    }

    /// The name of a connection's channel where names are not in the path.
    pub(crate) fn channel_name(&self, connection: usize) -> String {
        format!("bench-{}", self.channel(connection))
    }

    /// Publishers of this process; all are in the first one, so that it knows what it waits for.
    pub(crate) fn own_publishers(&self) -> usize {
        if self.own.start == 0 { self.publishers } else { 0 }
    }
}
