//! One fault as it happens: what it acts on, and what is noted about it.

use std::{
    io::{self, Write},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    proxy::Proxy,
    resp::Value,
    stage::{RedisServer, Stage, Topology},
};
use crate::{
    check::journal::Signals,
    clock::{self, SECOND},
    payload::Stamp,
};

/// From the beginning of a fault to the beginning of the next one (`clock::now`).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Window {
    pub(crate) fault: &'static str,
    pub(crate) began: u64,
    /// When everything was as it should be again, as far as the fault is concerned.
    pub(crate) ended: u64,
    pub(crate) until: u64,
    /// What was done.
    pub(crate) what: Vec<String>,
    /// The servers whose channels may suffer; none: all may.
    pub(crate) servers: Vec<usize>,
    /// By channel, the server that delivered it before; empty where there is but one.
    #[serde(skip)]
    pub(crate) owners: Vec<Option<usize>>,
    /// Why it could not be done.
    pub(crate) failed: Option<String>,
}

/// What a fault acts on.
pub(crate) struct Scene<'a> {
    pub(crate) stage: &'a mut Stage,
    pub(crate) random: &'a mut fastrand::Rng,
    pub(crate) signals: &'a Arc<Signals>,
    pub(crate) origin: u64,
    pub(crate) window: Window,
    /// The server that the fault is about.
    pub(crate) chosen: Option<usize>,
}

impl Window {
    /// Whether a channel should notice nothing.
    pub(crate) fn spares(&self, channel: usize) -> bool {
        let owner = self.owners.get(channel).copied().flatten();
        !self.servers.is_empty() && owner.is_some_and(|owner| !self.servers.contains(&owner))
    }
}

impl Scene<'_> {
    /// The fault begins now, not when its preparations began.
    pub(crate) fn begins(&mut self) {
        self.window.began = clock::now();
    }

    /// Everything is as it should be again.
    pub(crate) fn is_over(&mut self) {
        self.window.ended = clock::now();
        self.say("over");
    }

    /// Notes what was done, and tells who watches.
    pub(crate) fn say(&mut self, what: impl Into<String>) {
        let what = what.into();
        tell(self.origin, &format!("{}: {what}", self.window.fault));
        if what != "over" {
            self.window.what.push(what);
        }
    }

    /// Lets time pass.
    pub(crate) fn hold(&self, time: Duration) {
        thread::sleep(time);
    }

    /// The server that the fault is about, always the same one: a primary, by chance where there
    /// are several.
    pub(crate) fn server(&mut self) -> Result<&mut RedisServer> {
        let index = self.chosen()?;
        Ok(&mut self.stage.servers[index])
    }

    /// A command to that server.
    pub(crate) fn call(&mut self, words: &[&str]) -> Result<Value> {
        self.server()?.call(words)
    }

    /// The ways between nodes and that server: of one node, or of all.
    pub(crate) fn ways(&mut self) -> Result<Vec<(usize, &Proxy)>> {
        let server = self.chosen()?;
        let nodes = self.stage.proxies.len();
        let only = self.random.bool().then(|| self.random.usize(..nodes.max(1)));
        let all = self.stage.proxies.iter().enumerate();
        let ways = all.filter(|(node, _)| only.is_none_or(|only| only == *node));
        Ok(ways.map(|(node, proxies)| (node, &proxies[server])).collect())
    }

    /// The way between a node and that server.
    pub(crate) fn way_of(&mut self, node: usize) -> Result<&Proxy> {
        let server = self.chosen()?;
        Ok(&self.stage.proxies[node][server])
    }

    /// Starts that server again.
    pub(crate) fn start_server(&mut self) -> Result<()> {
        let index = self.chosen()?;
        self.start(index)
    }

    /// Starts any server again.
    pub(crate) fn start(&mut self, index: usize) -> Result<()> {
        let Stage { servers, starter, .. } = &mut *self.stage;
        servers[index].begin(starter)
    }

    /// Starts a sentinel again.
    pub(crate) fn start_sentinel(&mut self, index: usize) -> Result<()> {
        let Stage { sentinels, starter, .. } = &mut *self.stage;
        sentinels[index].begin(starter)
    }

    /// Starts a node again.
    pub(crate) fn start_node(&mut self, index: usize) -> Result<()> {
        let Stage { nodes, starter, .. } = &mut *self.stage;
        nodes[index].begin(starter)
    }

    /// Only the channels of these servers may suffer; the fault is about the first.
    pub(crate) fn suffer(&mut self, servers: &[usize]) {
        self.chosen = servers.first().copied();
        self.window.servers = servers.to_vec();
    }

    fn chosen(&mut self) -> Result<usize> {
        if let Some(chosen) = self.chosen {
            return Ok(chosen);
        }
        let chosen = match self.stage.topology {
            Topology::Single => 0,
            Topology::Sentinel => self.stage.primary()?,
            Topology::List => self.random.usize(..self.stage.servers.len()),
            Topology::Cluster => {
                let shards = self.stage.shards();
                let chosen = self.random.usize(..shards.len().max(1));
                shards.get(chosen).context("a primary with slots")?.0
            }
        };
        self.chosen = Some(chosen);
        if self.stage.topology.has_several() {
            self.window.servers = vec![chosen];
        }
        Ok(chosen)
    }

    /// From now on publications are as long as this.
    pub(crate) fn set_payload(&self, bytes: usize) {
        self.signals.payload_bytes.store(bytes.max(Stamp::BYTES), Ordering::Relaxed);
    }
}

/// A line with the time for whoever watches.
pub(crate) fn tell(origin: u64, what: &str) {
    let seconds = clock::now().saturating_sub(origin) as f64 / SECOND as f64;
    let _ = writeln!(io::stderr(), "{seconds:7.2} s  {what}");
}
