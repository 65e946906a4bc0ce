//! What a row plays on: a Redis that keeps nothing on disk, a node behind a proxy, and another with
//! a way of its own.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    chaos::proxy::{Proxy, Way},
    proc,
    server::{Server, Starter},
};

/// Everything that was started. Dropped, it ends.
pub(super) struct Ground {
    /// The node behind the proxy, which is measured.
    pub(super) node: Server,
    /// The node that publishes.
    pub(super) other: Server,
    pub(super) proxy: Proxy,
    pub(super) redis: Server,
    _folder: tempfile::TempDir,
}

impl Ground {
    /// Channels keep so many publications; `live:` channels keep none. `more` are settings of the
    /// node that is measured.
    pub(super) fn start(starter: &Starter, history_size: usize, more: &[&str]) -> Result<Self> {
        let redis =
            starter.redis()?.context("no redis-server found; name one by --redis-server")?;
        let proxy = Proxy::start(redis.address)?;
        let folder = tempfile::tempdir()?;
        let config = Config::write(&folder, history_size)?;
        let [measured, direct] = [proxy.address, redis.address].map(|it| format!("redis://{it}"));
        let node = config.node(starter, &[&["--redis", &measured], more].concat())?;
        let other = config.node(starter, &["--redis", &direct])?;
        Ok(Self { node, other, proxy, redis, _folder: folder })
    }

    /// Every answer takes so much longer.
    pub(super) fn set_round_trip(&self, time: Duration) {
        self.proxy.set_way(Way::Delayed(time / 2));
    }

    /// Ends all links of the measured node and refuses new ones.
    pub(super) fn keep_away(&self) -> Result<()> {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        self.proxy.lead_to(nobody);
        self.proxy.cut();
        Ok(())
    }

    pub(super) fn let_back(&self) {
        self.proxy.lead_to(self.redis.address);
    }
}

/// What all nodes of a row are told.
pub(super) struct Config(String);

impl Config {
    pub(super) fn write(folder: &tempfile::TempDir, history_size: usize) -> Result<Self> {
        let file = folder.path().join("dunlin.toml");
        let options = "allow_publish_for_client = true\nallow_publish_for_anonymous = true\n\
                       allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n";
        let text = format!(
            "[channel.without_namespace]\nhistory_size = {history_size}\nhistory_ttl = \"1h\"\n\
             force_recovery = true\n{options}\n\
             [[channel.namespaces]]\nname = \"live\"\n{options}\n\
             [client]\nallow_anonymous_connect_without_token = true\n\
             channel_limit = {SUBSCRIPTIONS_MAX}\n"
        );
        fs::write(&file, text)?;
        Ok(Self(file.to_str().context("the folder has no readable name")?.to_owned()))
    }

    pub(super) fn node(&self, starter: &Starter, more: &[&str]) -> Result<Server> {
        starter.dunlin(&[&["--config", &self.0], more].concat())
    }
}

/// The most memory that a process had since this was made.
pub(super) struct Memory {
    before: u64,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Memory {
    pub(super) fn watch(server: &Server) -> Result<Self> {
        let pid = server.pid();
        let before = proc::resident_bytes(pid)?;
        let (peak, stop) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
        let (highest, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        let watcher = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                highest.fetch_max(proc::resident_bytes(pid).unwrap_or_default(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        Ok(Self { before, peak, stop, watcher: Some(watcher) })
    }

    /// How many MiB more it had at most.
    pub(super) fn growth(&self) -> f64 {
        (self.peak.load(Ordering::Relaxed) - self.before) as f64 / (1 << 20) as f64
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            // It only looks; if it fell over, the figures say so.
            let _ = watcher.join();
        }
    }
}

const SUBSCRIPTIONS_MAX: usize = 1_000_000;
