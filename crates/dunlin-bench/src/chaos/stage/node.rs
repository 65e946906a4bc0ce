//! A node that can be stopped, killed and started again where it was.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::free_address;
use crate::server::{Server, Starter};

/// A node of Dunlin.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Server>,
}

impl Node {
    pub(super) fn start(
        starter: &Starter,
        root: &Path,
        name: &str,
        arguments: Vec<String>,
    ) -> Result<Self> {
        let log = root.join(format!("{name}.log"));
        let mut node = Self { address: free_address()?, arguments, log, process: None };
        node.begin(starter)?;
        Ok(node)
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end, and waits until it has; false when it had to be killed.
    pub(crate) fn dismiss(&mut self, patience: Duration) -> Result<bool> {
        let Some(mut process) = self.process.take() else { return Ok(true) };
        process.signal(Signal::TERM)?;
        process.has_ended_within(patience)
    }

    /// Starts it again after [`Self::kill`].
    pub(crate) fn begin(&mut self, starter: &Starter) -> Result<()> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.process = Some(starter.dunlin_at(self.address, &arguments, &self.log)?);
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("it runs")?.signal(signal)
    }

    /// Lets it run, whatever happened to it. That it ended by itself is an error, though it runs
    /// again then.
    pub(super) fn resume(&mut self, starter: &Starter) -> Result<()> {
        let Some(process) = &mut self.process else { return self.begin(starter) };
        if process.has_ended_within(Duration::ZERO)? {
            self.process = None;
            self.begin(starter)?;
            bail!("the node at {} ended by itself", self.address);
        }
        process.signal(Signal::CONT)
    }
}
