//! A Redis that can be stopped, killed, robbed of its data and started again where it was.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::free_address;
use crate::{
    chaos::resp::{self, Value},
    server::{Server, Starter},
};

/// A Redis (or a sentinel) and where it keeps its data.
pub(crate) struct RedisServer {
    pub(crate) address: SocketAddr,
    arguments: Vec<String>,
    folder: PathBuf,
    process: Option<Server>,
}

impl RedisServer {
    /// Starts one that writes everything down before it answers, in a folder of its own below
    /// `root`.
    pub(super) fn start(starter: &Starter, root: &Path, name: &str, more: &[&str]) -> Result<Self> {
        let (address, folder) = (free_address()?, root.join(name));
        fs::create_dir_all(&folder)?;
        let (data, log) = (readable(&folder)?, readable(&folder.join("log"))?);
        let port = address.port().to_string();
        let own = ["--port", &port, "--dir", &data, "--logfile", &log];
        let arguments = own.iter().chain(&KEEPING).chain(more).map(|&word| word.to_owned());
        Self::begun(starter, address, arguments.collect(), folder)
    }

    /// Starts a sentinel that watches `primary` under this name, with a quorum of two.
    pub(super) fn sentinel(
        starter: &Starter,
        root: &Path,
        name: &str,
        (watched, primary): (&str, SocketAddr),
    ) -> Result<Self> {
        let (address, folder) = (free_address()?, root.join(name));
        fs::create_dir_all(&folder)?;
        let (file, data) = (folder.join("sentinel.conf"), readable(&folder)?);
        let config = format!(
            "bind 127.0.0.1\nport {}\ndir \"{data}\"\nlogfile \"{data}/log\"\n\
             sentinel monitor {watched} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {watched} 1000\n\
             sentinel failover-timeout {watched} 5000\n",
            address.port(),
            primary.port(),
        );
        fs::write(&file, config)?;
        Self::begun(starter, address, vec![readable(&file)?, "--sentinel".to_owned()], folder)
    }

    fn begun(
        starter: &Starter,
        address: SocketAddr,
        arguments: Vec<String>,
        folder: PathBuf,
    ) -> Result<Self> {
        let mut server = Self { address, arguments, folder, process: None };
        server.begin(starter)?;
        Ok(server)
    }

    /// One command; an error of the server is one.
    pub(crate) fn call(&self, words: &[&str]) -> Result<Value> {
        resp::call(self.address, words)
    }

    /// A field of what INFO says in a section.
    pub(crate) fn info(&self, section: &str, field: &str) -> Result<String> {
        let info = self.call(&["INFO", section])?;
        let mut lines = info.text().unwrap_or_default().lines();
        let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(value.unwrap_or_default().to_owned())
    }

    /// Whether it is there and says that it is a primary.
    pub(crate) fn is_primary(&self) -> bool {
        self.info("replication", "role").is_ok_and(|role| role == "master")
    }

    /// Whether it is a replica that has what its primary has.
    pub(crate) fn is_linked(&self) -> bool {
        self.info("replication", "master_link_status").is_ok_and(|status| status == "up")
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again after [`Self::kill`].
    pub(crate) fn begin(&mut self, starter: &Starter) -> Result<()> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let process = starter.redis_at(self.address, &arguments)?;
        self.process = Some(process.context("no redis-server found; name one by --redis-server")?);
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("it runs")?.signal(signal)
    }

    /// Lets it run, whatever happened to it.
    pub(super) fn resume(&mut self, starter: &Starter) -> Result<()> {
        match &self.process {
            Some(process) => process.signal(Signal::CONT),
            None => self.begin(starter),
        }
    }

    /// Throws its data away; it must not run.
    pub(crate) fn forget(&self) -> Result<()> {
        Ok(fs::remove_dir_all(self.data())?)
    }

    /// Copies its data aside, as it is at this moment.
    pub(crate) fn snapshot(&self) -> Result<()> {
        let aside = self.aside();
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir_all(&aside)?;
        for file in fs::read_dir(self.data())? {
            let file = file?;
            fs::copy(file.path(), aside.join(file.file_name()))?;
        }
        Ok(())
    }

    /// Puts the copy in the place of its data; it must not run.
    pub(crate) fn roll_back(&self) -> Result<()> {
        self.forget()?;
        Ok(fs::rename(self.aside(), self.data())?)
    }

    /// Where a snapshot would go; what stands in its way makes snapshots fail.
    pub(crate) fn dump(&self) -> PathBuf {
        self.folder.join("dump.rdb")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("appendonlydir")
    }

    fn aside(&self) -> PathBuf {
        self.folder.join("aside")
    }
}

fn readable(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the folder has no readable name")?.to_owned())
}

const KEEPING: [&str; 10] = [
    "--bind",
    "127.0.0.1",
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--repl-diskless-sync-delay",
    "0",
];
