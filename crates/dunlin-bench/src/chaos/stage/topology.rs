//! How Redis servers stand together, and how nodes are told of it.

use std::{fmt, fs};

use anyhow::{Context, Result};

use super::{Node, Proxy, RedisServer, Stage};

/// How Redis servers stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topology {
    /// One server
    Single,
    /// A primary with two replicas, watched by three sentinels; nodes have no proxies
    Sentinel,
    /// Three primaries with a replica each; nodes have no proxies
    Cluster,
    /// Three servers that know nothing of one another; channels are spread over them
    List,
}

impl fmt::Display for Topology {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
            Self::List => "list",
        })
    }
}

impl Topology {
    /// Whether channels are spread over several servers, of which a fault hits but one.
    pub(crate) fn has_several(self) -> bool {
        matches!(self, Self::List | Self::Cluster)
    }
}

impl Stage {
    pub(super) fn start_servers(&mut self) -> Result<()> {
        let (count, more) = match self.topology {
            Topology::Single => (1, &[][..]),
            Topology::Sentinel | Topology::List => (3, &[][..]),
            Topology::Cluster => (6, &CLUSTER[..]),
        };
        for number in 0..count {
            let name = format!("redis-{number}");
            let server = RedisServer::start(&self.starter, self.path(), &name, more)?;
            self.servers.push(server);
        }
        match self.topology {
            Topology::Single | Topology::List => Ok(()),
            Topology::Sentinel => self.start_sentinels(),
            Topology::Cluster => self.form_cluster(),
        }
    }

    pub(super) fn start_nodes(&mut self, count: usize) -> Result<()> {
        let config = self.path().join("dunlin.toml");
        fs::write(&config, CONFIG)?;
        let config = config.to_str().context("the folder has no readable name")?.to_owned();
        for number in 0..count {
            let proxies = match self.topology {
                Topology::Single | Topology::List => {
                    let proxy = |server: &RedisServer| Proxy::start(server.address);
                    self.servers.iter().map(proxy).collect::<Result<_, _>>()?
                }
                Topology::Sentinel | Topology::Cluster => Vec::new(),
            };
            let mut arguments = vec!["--config".to_owned(), config.clone()];
            arguments.extend(self.redis_arguments(&proxies));
            self.proxies.push(proxies);
            let name = format!("node-{number}");
            let node = Node::start(&self.starter, self.path(), &name, arguments)?;
            self.nodes.push(node);
        }
        Ok(())
    }

    /// How a node is told where its Redis is.
    fn redis_arguments(&self, proxies: &[Proxy]) -> [String; 2] {
        let places = |servers: &[RedisServer]| {
            let places: Vec<String> = servers.iter().map(|it| it.address.to_string()).collect();
            places.join(",")
        };
        let urls: Vec<String> =
            proxies.iter().map(|proxy| format!("redis://{}", proxy.address)).collect();
        let redis = |url| ["--redis".to_owned(), url];
        match self.topology {
            Topology::Single => redis(urls.concat()),
            Topology::List => ["--set".to_owned(), format!("redis.url={}", urls.join(","))],
            Topology::Sentinel => {
                redis(format!("redis+sentinel://{}/{SERVICE}", places(&self.sentinels)))
            }
            Topology::Cluster => redis(format!("redis+cluster://{}", places(&self.servers))),
        }
    }
}

/// What the sentinels call the primary that they watch.
pub(crate) const SERVICE: &str = "main";

const CLUSTER: [&str; 8] = [
    "--cluster-enabled",
    "yes",
    "--cluster-config-file",
    "nodes.conf",
    "--cluster-node-timeout",
    "2000",
    // Slots of other primaries go on.
    "--cluster-require-full-coverage",
    "no",
];

/// Every channel keeps more than is published while the longest fault lasts.
const CONFIG: &str = r#"[channel.without_namespace]
history_size = 1000
history_ttl = "10m"
force_recovery = true
allow_publish_for_client = true
allow_publish_for_anonymous = true
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true

[client]
allow_anonymous_connect_without_token = true
"#;
