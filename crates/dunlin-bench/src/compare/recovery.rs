//! The rows about recovery: a flock whose clients come and go, and what happens to them when a node
//! or Redis is killed half way.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result};

use super::{history::Config, progress, scale::Scale, table::Section};
use crate::{
    check::{self, Verdict},
    load::Dialect,
    report::counts,
    server::{Server, Starter},
};

/// Three nodes over one Redis, 300 clients that reconnect to a random node about every second, 200
/// publications a second over 20 channels.
pub(super) fn recovery(starter: &Starter, scale: &Scale) -> Result<Section> {
    let seconds = scale.check_seconds;
    let title = format!("Recovery: three nodes over Redis, 300 clients, {seconds} s each");
    let mut section = Section::new(title, &HEAD);
    let period = Duration::from_secs_f64(seconds);
    for (what, trouble) in TROUBLES {
        progress(&format!("recovery: {what}"));
        let Some(flock) = Flock::start(starter)? else {
            return Ok(section.skip("no redis-server found"));
        };
        let urls = flock.nodes.borrow().iter().map(|node| node.target(DIALECT)).collect();
        let verdict = check::flock(urls, period, || trouble(&flock))?;
        section.row(row(what, &verdict), verdict.is_clean());
    }
    Ok(section)
}

/// What is done half way.
type Trouble = fn(&Flock<'_>) -> Result<()>;

const TROUBLES: [(&str, Trouble); 2] = [
    ("a node is killed", |flock| flock.kill_a_node()),
    ("Redis is killed and comes back", |flock| flock.kill_redis()),
];

const DIALECT: Dialect = Dialect::CentrifugeJson;

/// Nodes that share a Redis which writes everything down before it answers: what it acknowledged
/// must not be lost, whatever is killed.
struct Flock<'a> {
    starter: &'a Starter,
    nodes: RefCell<Vec<Server>>,
    redis: RefCell<Option<Server>>,
    folder: tempfile::TempDir,
    _config: Config,
}

impl<'a> Flock<'a> {
    fn start(starter: &'a Starter) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let Some(redis) = starter.keeping_redis(folder.path(), None)? else { return Ok(None) };
        let url = format!("redis://{}", redis.address);
        let config = Config::write()?;
        let path = config.path()?;
        let node = || starter.dunlin(&["--config", path, "--redis", &url]);
        let nodes = (0..3).map(|_| node()).collect::<Result<_>>()?;
        let redis = RefCell::new(Some(redis));
        Ok(Some(Self { starter, nodes: RefCell::new(nodes), redis, folder, _config: config }))
    }

    fn kill_a_node(&self) -> Result<()> {
        self.nodes.borrow_mut().pop();
        Ok(())
    }

    fn kill_redis(&self) -> Result<()> {
        let killed = self.redis.take().context("redis is there")?;
        let address = killed.address;
        drop(killed);
        let back = self.starter.keeping_redis(self.folder.path(), Some(address))?;
        self.redis.replace(back);
        Ok(())
    }
}

fn row(what: &str, verdict: &Verdict) -> Vec<String> {
    let (seen, faults) = (&verdict.counts, &verdict.faults);
    vec![
        what.to_owned(),
        format!("{} / {}", seen.publications, seen.acknowledged),
        seen.deliveries.to_string(),
        seen.reconnects.to_string(),
        format!("{} / {}", seen.recovered, seen.not_recovered),
        format!(
            "{} / {} / {} / {}",
            faults.gaps, faults.duplicates, faults.reorders, faults.false_recovered
        ),
        counts(&seen.closed),
    ]
}

const HEAD: [&str; 7] = [
    "half way",
    "published / acknowledged",
    "deliveries",
    "reconnects",
    "recovered / not",
    "gaps / duplicates / reorders / false recovered",
    "closed by the server",
];
