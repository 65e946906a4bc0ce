//! `dunlin demo`: several nodes and a private Redis on this machine, to see one room on many nodes.
//! Without a configuration file they have the channels of the page's second tab.
//! Everything it starts ends with it, even if it is killed hard.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use dunlin_core::channel::ChannelName;
use dunlin_redis::keys::Keys;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use self::process::{Ended, Process, Program};
use super::{flags::ConfigFlags, healthcheck};
use crate::config::{Config, InternalConfig, RedisUrls};

mod process;
mod redis;

/// How long a node may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Settings of the demo's nodes that the user's own come after: a demo ends quickly.
const SETTINGS: [&str; 4] =
    ["redis.wait=10s", "shutdown.accept_for=0s", "shutdown.drain=1s", "shutdown.timeout=5s"];

/// ANSI colours for the tags: green, yellow, blue, magenta, cyan; Redis is grey.
const COLOURS: [u8; 5] = [32, 33, 34, 35, 36];
const GREY: u8 = 90;

#[derive(Debug, Args)]
pub(super) struct DemoFlags {
    /// How many nodes; on consecutive ports, the first is that of --listen
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    #[command(flatten)]
    config: ConfigFlags,
}

pub(super) fn run(flags: DemoFlags) -> anyhow::Result<ExitCode> {
    let forwarded = flags.config.for_node();
    let config = flags.config.load()?.config;
    let addresses = addresses(config.listen, flags.nodes)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(show(&config, &forwarded, &addresses))
}

async fn show(
    config: &Config,
    forwarded: &[OsString],
    addresses: &[SocketAddr],
) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut flock = Flock::new(addresses.len() + 1);
    // All branches may be dropped at any await: what they started is in the flock.
    let shown = tokio::select! {
        shown = flock.live(config, forwarded, addresses) => shown,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    tokio::select! {
        () = flock.end() => {}
        _ = interrupt.recv() => flock.kill(),
        _ = terminate.recv() => flock.kill(),
    }
    shown.map(|()| ExitCode::SUCCESS)
}

/// All processes of the demo.
struct Flock {
    processes: Vec<Process>,
    /// Where the private Redis has its socket, if there is one.
    folder: PathBuf,
    ended: mpsc::Receiver<Ended>,
    tell_end: mpsc::Sender<Ended>,
}

impl Flock {
    fn new(processes: usize) -> Self {
        let (tell_end, ended) = mpsc::channel(processes);
        Self { processes: Vec::new(), folder: redis::folder(), ended, tell_end }
    }

    /// Starts everything, says what to do, and watches until no node is left.
    async fn live(
        &mut self,
        config: &Config,
        forwarded: &[OsString],
        addresses: &[SocketAddr],
    ) -> anyhow::Result<()> {
        let socket = redis::socket_in(&self.folder);
        let (url, client) = match &config.redis.url {
            Some(urls) => (urls.expose(), redis::client(urls.first())),
            None => {
                self.start(redis::program(&self.folder)?, GREY)?;
                (redis::url_of(&socket), format!("redis-cli -s {}", socket.display()))
            }
        };
        for (index, address) in addresses.iter().enumerate() {
            let program = node(index, *address, &url, forwarded)?;
            self.start(program, COLOURS[index % COLOURS.len()])?;
        }
        for (index, address) in addresses.iter().enumerate() {
            let internal = InternalConfig { listen: None };
            let config = Config { listen: *address, internal, ..config.clone() };
            self.ready(&name(index), config).await?;
        }
        say(&welcome(config, addresses, &client));
        while self.processes.iter().any(|process| process.tag != redis::TAG) {
            say(&self.next_end().await);
        }
        bail!("no node is left")
    }

    fn start(&mut self, program: Program, colour: u8) -> anyhow::Result<()> {
        let tag = program.tag.clone();
        let process = Process::start(program, colour, self.tell_end.clone())
            .with_context(|| format!("starting {tag}"))?;
        self.processes.push(process);
        Ok(())
    }

    /// Waits until the node says that it is ready.
    async fn ready(&mut self, name: &str, config: Config) -> anyhow::Result<()> {
        let asking = async {
            loop {
                let config = config.clone();
                let ask = move || healthcheck::ask(&config, "/ready");
                if matches!(spawn_blocking(ask).await, Ok(Ok((200, _)))) {
                    return;
                }
                sleep(ASK_EVERY).await;
            }
        };
        tokio::select! {
            ready = timeout(START, asking) => {
                ready.with_context(|| format!("{name} was not ready within {START:?}"))
            }
            ended = self.next_end() => bail!("{ended} before all were ready"),
        }
    }

    /// The next end of a process, in words. Cancel-safe.
    async fn next_end(&mut self) -> String {
        let ended = self.ended.recv().await;
        let Ended { tag, status } = ended.expect("a sender is kept here");
        self.processes.retain(|process| process.tag != tag);
        match status.map(|status| status.code()) {
            Ok(Some(code)) if code > 128 => format!("{tag} was ended by signal {}", code - 128),
            Ok(Some(code)) => format!("{tag} ended with exit code {code}"),
            Ok(None) => format!("{tag} has lost its leash"),
            Err(error) => format!("{tag} ended: {error}"),
        }
    }

    /// Lets go of all leashes and waits until everything has ended: the nodes first, so that they
    /// do not see Redis go.
    async fn end(&mut self) {
        for is_turn in [|tag: &str| tag != redis::TAG, |_: &str| true] {
            self.processes.iter_mut().filter(|one| is_turn(&one.tag)).for_each(Process::let_go);
            while self.processes.iter().any(|one| is_turn(&one.tag)) {
                self.next_end().await;
            }
        }
    }

    /// Ends everything at once; what a leash would have tidied up is tidied up here.
    fn kill(&self) {
        self.processes.iter().for_each(Process::kill);
        // It is not there if Redis is not the demo's own, or has ended before.
        let _removed = fs::remove_dir_all(&self.folder);
    }
}

fn node(
    index: usize,
    address: SocketAddr,
    redis_url: &str,
    forwarded: &[OsString],
) -> anyhow::Result<Program> {
    let mut command = vec![std::env::current_exe()?.into(), "serve".into()];
    for setting in SETTINGS {
        command.extend(["--set".into(), OsString::from(setting)]);
    }
    command.extend_from_slice(forwarded);
    let tag = name(index);
    command.extend(["--set".into(), OsString::from(format!("node.name={tag}"))]);
    // Only one of them could have it.
    command.extend(["--set".into(), OsString::from("internal.listen=")]);
    command.extend(["--listen", &address.to_string(), "--log-format", "text"].map(OsString::from));
    // Not as a flag: everybody on the machine can read those, and it may hold a password.
    let environment = vec![("DUNLIN_REDIS_URL", redis_url.to_owned())];
    Ok(Program { tag, command, environment, folder: None })
}

fn name(index: usize) -> String {
    format!("node-{}", index + 1)
}

/// An address per node, each of them free a moment ago. Port 0 means any free ones.
fn addresses(first: SocketAddr, nodes: u16) -> anyhow::Result<Vec<SocketAddr>> {
    let mut held = Vec::new();
    for index in 0..nodes {
        let port = match first.port() {
            0 => 0,
            port => port.checked_add(index).context("there are no ports beyond 65535")?,
        };
        let address = SocketAddr::new(first.ip(), port);
        let listener = TcpListener::bind(address).with_context(|| {
            format!("{address} cannot be used; --listen ADDRESS:PORT sets another first port")
        })?;
        held.push(listener);
    }
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

fn welcome(config: &Config, addresses: &[SocketAddr], client: &str) -> String {
    let scheme = if config.tls.cert_file.is_some() { "https" } else { "http" };
    let pages: String = addresses
        .iter()
        .enumerate()
        .map(|(index, address)| {
            let address = healthcheck::on_this_machine(*address);
            format!("  {}  {scheme}://{address}\n", name(index))
        })
        .collect();
    let urls = config.redis.url.iter().flat_map(|urls| urls.parsed());
    let databases: Vec<_> = urls.map(|url| url.database).collect();
    let mut keys = Keys::new(&config.redis.channel_prefix).in_databases(&databases);
    let mut publish = "PUBLISH";
    if config.redis.url.as_ref().is_some_and(RedisUrls::is_cluster) {
        (keys, publish) = (keys.sharded(), "SPUBLISH");
    }
    let channel = ChannelName::plain(&config.plain.default_channel).expect("it was checked");
    let channel = keys.channel(&channel);
    let channel = String::from_utf8_lossy(&channel);
    format!(
        "\n{} nodes, one Redis. Open two of these pages, type in one, read in the other;\n\
         the tab Memory shows who is here, and that a cut loses nothing:\n\n\
         {pages}\n\
         Any program on that Redis takes part:\n\n  \
         {client} {publish} {channel} hello\n\n\
         Ctrl-C ends all of it.\n",
        addresses.len()
    )
}

fn say(text: &str) {
    // A terminal that is gone takes the words with it, not the demo.
    let _written = writeln!(io::stdout().lock(), "{text}");
}
