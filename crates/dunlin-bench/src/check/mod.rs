//! `dunlin-bench check`: centrifuge clients that are cut at random and recover, on any node, while
//! some publish; everything they get is judged.

mod client;
pub(crate) mod journal;
pub(crate) mod judge;
mod stream;
mod swarm;
#[cfg(test)]
mod tests;
mod token;
mod verdict;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};

pub(crate) use self::{
    swarm::Swarm,
    verdict::{Counts, Verdict},
};
use crate::{centrifuge::Encoding, open, report, target::Target};

/// Arguments of `dunlin-bench check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Node to connect to (ws://host:port/connection/websocket); repeat for several. A client takes
    /// a random one each time, and another one when that refuses
    #[arg(long = "url", value_name = "URL", required = true)]
    urls: Vec<Target>,
    /// Clients
    #[arg(long, default_value_t = 300)]
    clients: usize,
    /// Channels; they need history, recovery, and clients that may subscribe and publish
    #[arg(long, default_value_t = 20)]
    channels: usize,
    /// Channels each client is subscribed to; it publishes to the first of them
    #[arg(long, default_value_t = 2)]
    subscriptions: usize,
    /// Publications per second, all clients together
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// How long to publish
    #[arg(long = "for", value_name = "DURATION", default_value = "2m", value_parser = duration)]
    period: Duration,
    /// Mean time from a client's connect to its next cut
    #[arg(long, default_value = "1s", value_parser = duration)]
    reconnect: Duration,
    /// Mean time a client is away after a cut
    #[arg(long, default_value = "200ms", value_parser = duration)]
    away: Duration,
    /// So many of the clients are never cut
    #[arg(long, default_value_t = 0)]
    steady: usize,
    /// Encoding of the protocol
    #[arg(long, value_enum, default_value_t = Encoding::Json)]
    protocol: Encoding,
    /// Token to connect with, the same for all clients
    #[arg(long, conflicts_with = "hmac_secret")]
    token: Option<String>,
    /// Secret to sign a token for each client with (HS256)
    #[arg(long)]
    hmac_secret: Option<String>,
    /// What the names of the channels start with; a number follows
    #[arg(long, default_value = "check-")]
    channel_prefix: String,
    /// How long to wait for all clients, at the start and at the end
    #[arg(long, default_value = "30s", value_parser = duration)]
    patience: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the clients; exit code 1 when anything was lost, repeated, out of order or falsely said to
/// be recovered.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(args.clients > 0 && args.channels > 0, "--clients and --channels must be above 0");
    ensure!(
        (1..=args.channels).contains(&args.subscriptions),
        "--subscriptions must be from 1 to --channels"
    );
    ensure!(args.rate > 0.0, "--rate must be above 0");
    let verdict = judge(args, || Ok(()))?;
    report::print(&verdict, args.json)?;
    Ok(report::exit_code(verdict.is_clean()))
}

/// Runs the clients; `half_way` is where a test makes trouble.
fn judge(args: &Args, half_way: impl FnOnce() -> Result<()>) -> Result<Verdict> {
    open::allow_connections(args.clients)?;
    let mut swarm = Swarm::new(args)?;
    swarm.gather()?;
    swarm.publish_for(args.period / 2)?;
    half_way()?;
    swarm.publish_for(args.period / 2)?;
    swarm.drain()?;
    Ok(swarm.verdict())
}

/// Judges a flock of nodes for `period` as [`Args`] has it by default.
pub(crate) fn flock(
    urls: Vec<Target>,
    period: Duration,
    half_way: impl FnOnce() -> Result<()>,
) -> Result<Verdict> {
    judge(&Args { period, ..Args::defaults(urls)? }, half_way)
}

impl Args {
    /// Everything by default.
    fn defaults(urls: Vec<Target>) -> Result<Self> {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            args: Args,
        }
        let any = ["check", "--url", "ws://127.0.0.1:1/"];
        let Defaults { args } = <Defaults as clap::Parser>::try_parse_from(any)?;
        Ok(Self { urls, ..args })
    }

    /// A flock of this size, half of which is never cut.
    pub(crate) fn half_steady(
        urls: Vec<Target>,
        clients: usize,
        channels: usize,
        rate: f64,
    ) -> Result<Self> {
        let args = Self::defaults(urls)?;
        let subscriptions = args.subscriptions.min(channels);
        Ok(Self { clients, channels, subscriptions, rate, steady: clients.div_ceil(2), ..args })
    }

    /// The names of all channels.
    pub(crate) fn channel_names(&self) -> Vec<String> {
        (0..self.channels).map(|channel| self.channel_name(channel)).collect()
    }

    /// The channel that is the `index`-th of a client.
    fn channel(&self, client: usize, index: usize) -> usize {
        (client + index) % self.channels
    }

    fn channel_name(&self, channel: usize) -> String {
        format!("{}{channel}", self.channel_prefix)
    }

    fn connect_token(&self, client: usize) -> String {
        match (&self.hmac_secret, &self.token) {
            (Some(secret), _) => token::connect_token(secret, &format!("check-{client}")),
            (None, token) => token.clone().unwrap_or_default(),
        }
    }
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}
