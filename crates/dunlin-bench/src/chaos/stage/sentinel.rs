//! A primary, its replicas, and those who watch them.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context, Result, bail};

use super::{RedisServer, Stage, topology::SERVICE};
use crate::chaos::resp::Value;

impl Stage {
    pub(super) fn start_sentinels(&mut self) -> Result<()> {
        let primary = self.servers[0].address;
        let port = primary.port().to_string();
        for replica in &self.servers[1..] {
            replica.call(&["REPLICAOF", "127.0.0.1", &port])?;
        }
        self.wait_for("the replicas", |stage| {
            Ok(stage.servers[1..].iter().all(RedisServer::is_linked))
        })?;
        for number in 0..3 {
            let name = format!("sentinel-{number}");
            let watched = (SERVICE, primary);
            let sentinel = RedisServer::sentinel(&self.starter, self.path(), &name, watched)?;
            self.sentinels.push(sentinel);
        }
        self.wait_for("the sentinels to know everybody", |stage| Ok(stage.is_watched()))
    }

    /// Whether all sentinels know one another and both replicas, and agree on a primary whose
    /// replicas have what it has.
    pub(crate) fn is_watched(&self) -> bool {
        let knows = |sentinel: &RedisServer| {
            let master = sentinel.call(&["SENTINEL", "MASTER", SERVICE]).ok()?;
            let field = |name| field(&master, name);
            let complete = field("num-slaves")? == "2" && field("num-other-sentinels")? == "2";
            (complete && field("flags")? == "master").then_some(())
        };
        let Some(primary) = self.agreed_primary() else { return false };
        let others = self.servers.iter().filter(|server| server.address != primary);
        self.sentinels.iter().all(|it| knows(it).is_some())
            && others.into_iter().all(RedisServer::is_linked)
    }

    /// The primary that all sentinels which answer name, if it says so itself.
    pub(crate) fn agreed_primary(&self) -> Option<SocketAddr> {
        let named = self.sentinels.iter().filter_map(named_primary);
        let named: Vec<SocketAddr> = named.collect();
        let first = *named.first()?;
        let server = self.servers.iter().find(|server| server.address == first)?;
        (named.iter().all(|it| *it == first) && server.is_primary()).then_some(first)
    }

    /// Which of the servers is the primary.
    pub(crate) fn primary(&self) -> Result<usize> {
        let primary = self.agreed_primary().context("the sentinels do not agree on a primary")?;
        let index = self.servers.iter().position(|server| server.address == primary);
        index.context("a foreign primary")
    }

    /// Waits until something is so, within bounds.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        mut is_so: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        for _ in 0..PATIENCE.as_millis() / EVERY.as_millis() {
            if is_so(self)? {
                return Ok(());
            }
            thread::sleep(EVERY);
        }
        bail!("waited {PATIENCE:?} for {what} in vain")
    }
}

fn named_primary(sentinel: &RedisServer) -> Option<SocketAddr> {
    let answer = sentinel.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).ok()?;
    let [host, port] = answer.list() else { return None };
    format!("{}:{}", host.text()?, port.text()?).parse().ok()
}

/// A field of a flat list of names and values.
fn field<'a>(list: &'a Value, name: &str) -> Option<&'a str> {
    let (pairs, _) = list.list().as_chunks::<2>();
    pairs.iter().find(|[key, _]| key.text() == Some(name)).and_then(|[_, value]| value.text())
}

const PATIENCE: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(20);
