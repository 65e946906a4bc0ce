//! What a run plays with: Redis servers, nodes, and a proxy on every link between them.

mod cluster;
mod node;
mod sentinel;
mod server;
mod topology;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

pub(crate) use self::{
    node::Node,
    server::RedisServer,
    topology::{SERVICE, Topology},
};
use super::{
    proxy::{Proxy, Way},
    resp::Value,
};
use crate::{server::Starter, target::Target};

/// Everything that was started. Dropped, it ends.
pub(crate) struct Stage {
    pub(crate) topology: Topology,
    pub(crate) nodes: Vec<Node>,
    /// Those that hold data.
    pub(crate) servers: Vec<RedisServer>,
    /// Those that watch them, where that is so.
    pub(crate) sentinels: Vec<RedisServer>,
    /// By node, then by server; none where nodes learn addresses from the servers.
    pub(crate) proxies: Vec<Vec<Proxy>>,
    pub(crate) starter: Starter,
    folder: Folder,
}

/// Where everything lies: for this run only, or kept.
enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Stage {
    /// Starts servers, then proxies, then nodes.
    pub(crate) fn start(
        starter: Starter,
        topology: Topology,
        nodes: usize,
        keep: Option<&Path>,
    ) -> Result<Self> {
        let folder = match keep {
            Some(path) => {
                std::fs::create_dir_all(path)
                    .with_context(|| format!("cannot make {}", path.display()))?;
                Folder::Kept(path.canonicalize()?)
            }
            None => Folder::Temporary(tempfile::tempdir()?),
        };
        let (servers, sentinels) = (Vec::new(), Vec::new());
        let (nodes_started, proxies) = (Vec::new(), Vec::new());
        let mut stage =
            Self { topology, nodes: nodes_started, servers, sentinels, proxies, starter, folder };
        stage.start_servers()?;
        stage.start_nodes(nodes)?;
        Ok(stage)
    }

    /// Where clients of every node connect to.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let target = |node: &Node| Target {
            address: node.address,
            host: node.address.to_string(),
            path: "/connection/websocket".to_owned(),
        };
        self.nodes.iter().map(target).collect()
    }

    /// Another server, empty and for as long as it is held.
    pub(crate) fn spare_server(&self) -> Result<RedisServer> {
        let name = format!("spare-{}", fastrand::u32(..));
        RedisServer::start(&self.starter, self.path(), &name, &[])
    }

    /// Undoes what a fault may have left: every way open, every process there and running.
    pub(crate) fn mend(&mut self) -> Result<()> {
        for proxy in self.proxies.iter().flatten() {
            proxy.set_way(Way::Open);
        }
        for server in self.servers.iter_mut().chain(&mut self.sentinels) {
            server.resume(&self.starter)?;
        }
        for node in &mut self.nodes {
            node.resume(&self.starter)?;
        }
        match self.topology {
            Topology::Single | Topology::List => Ok(()),
            Topology::Sentinel => self.wait_for("the sentinels", |it| Ok(it.is_watched())),
            Topology::Cluster => self.wait_for("the cluster", |it| Ok(it.is_whole())),
        }
    }

    /// By channel, which server delivers it at this moment; judged by who subscribes where.
    pub(crate) fn owners(&self, channels: &[String]) -> Vec<Option<usize>> {
        let mut owners = vec![None; channels.len()];
        for (index, server) in self.servers.iter().enumerate() {
            for question in ["CHANNELS", "SHARDCHANNELS"] {
                // A server that is away, or too old for shard channels, has none.
                let Ok(names) = server.call(&["PUBSUB", question]) else { continue };
                for name in names.list().iter().filter_map(Value::text) {
                    let channel = channels.iter().position(|it| is_of(name, it));
                    if let Some(channel) = channel {
                        owners[channel].get_or_insert(index);
                    }
                }
            }
        }
        owners
    }

    fn path(&self) -> &Path {
        match &self.folder {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        }
    }
}

/// Whether a name in Redis is that of a channel: with whatever in front of it.
fn is_of(name: &str, channel: &str) -> bool {
    let before = name.strip_suffix(channel);
    before.is_some_and(|before| !before.ends_with(|it: char| it.is_ascii_alphanumeric()))
}

/// A free port of this machine from which no connection starts by itself and above which, 10,000
/// further on, there is room for a cluster's bus.
fn free_address() -> Result<SocketAddr> {
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}

const PORTS: std::ops::Range<u16> = 12_000..22_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_known_by_its_name_in_redis() {
        for (name, channel, expected) in [
            ("dunlin:check-1", "check-1", true),
            ("dunlin2:{x9}:c:check-1", "check-1", true),
            ("check-1", "check-1", true),
            ("dunlin:check-11", "check-1", false),
            ("dunlin:recheck-1", "check-1", false),
            ("__sentinel__:hello", "check-1", false),
        ] {
            assert_eq!(is_of(name, channel), expected, "{name}");
        }
    }
}
