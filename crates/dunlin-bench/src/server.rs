//! The programs that this one starts: floor, Dunlin, redis-server. Each is killed when it is
//! dropped, and all are when this process is told to end.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};

use crate::{load::Dialect, target::Target};

/// Knows the programs and starts them.
pub(crate) struct Starter {
    dunlin: PathBuf,
    redis: PathBuf,
    running: Running,
}

/// A started program; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    running: Running,
}

/// Process ids of what is running now.
type Running = Arc<Mutex<Vec<u32>>>;

impl Starter {
    pub(crate) fn new(dunlin: PathBuf, redis: PathBuf) -> Result<Self> {
        let running = Running::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let at_the_end = Arc::clone(&running);
        thread::spawn(move || {
            for signal in signals.forever() {
                for &pid in at_the_end.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    if let Some(pid) = pid.try_into().ok().and_then(Pid::from_raw) {
                        let _ = kill_process(pid, Signal::KILL);
                    }
                }
                let _ = emulate_default_handler(signal);
            }
        });
        Ok(Self { dunlin, redis, running })
    }

    /// Starts a floor: this program.
    pub(crate) fn floor(&self, arguments: &[&str]) -> Result<Server> {
        self.listening(Command::new(std::env::current_exe()?).arg("floor").args(arguments), None)
    }

    /// Starts a node with one shard on a free port.
    pub(crate) fn dunlin(&self, arguments: &[&str]) -> Result<Server> {
        self.dunlin_within(None, arguments)
    }

    /// As [`Starter::dunlin`], with so much memory as the most that it may use.
    pub(crate) fn dunlin_within(
        &self,
        memory_mib: Option<u64>,
        arguments: &[&str],
    ) -> Result<Server> {
        let mut command = match memory_mib {
            None => Command::new(&self.dunlin),
            Some(mib) => {
                let mut command = Command::new("/bin/sh");
                let script = format!("ulimit -d {} && exec \"$0\" \"$@\"", mib * 1024);
                command.args(["-c", &script]).arg(&self.dunlin);
                command
            }
        };
        command.args(["serve", "--listen", "127.0.0.1:0", "--set", "shards=1"]);
        self.listening(command.args(arguments), None)
    }

    /// Starts a node with one shard at an address; what it says goes behind what `log` holds.
    pub(crate) fn dunlin_at(
        &self,
        address: SocketAddr,
        arguments: &[&str],
        log: &Path,
    ) -> Result<Server> {
        let mut command = Command::new(&self.dunlin);
        command.args(["serve", "--listen", &address.to_string(), "--set", "shards=1"]);
        self.listening(command.args(arguments), Some(log))
    }

    /// Starts a Redis that keeps nothing on a free port; `None` when there is no such program.
    pub(crate) fn redis(&self) -> Result<Option<Server>> {
        self.redis_with(None, &["--appendonly", "no"])
    }

    /// Starts a Redis that writes everything into `folder` before it answers, on a free port or at
    /// `address`; `None` when there is no such program.
    pub(crate) fn keeping_redis(
        &self,
        folder: &Path,
        address: Option<SocketAddr>,
    ) -> Result<Option<Server>> {
        let folder = folder.to_str().context("the folder has no readable name")?;
        let keep = ["--appendonly", "yes", "--appendfsync", "always", "--dir", folder];
        self.redis_with(address, &keep)
    }

    fn redis_with(&self, address: Option<SocketAddr>, keep: &[&str]) -> Result<Option<Server>> {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
        let address = address.map_or_else(free, Ok)?;
        let port = address.port().to_string();
        let place = ["--bind", "127.0.0.1", "--port", &port, "--save", ""];
        self.redis_at(address, &[&place[..], keep].concat())
    }

    /// Starts a redis-server with these arguments, which let it listen on `address`, and waits
    /// until it answers; `None` when there is no such program.
    pub(crate) fn redis_at(
        &self,
        address: SocketAddr,
        arguments: &[&str],
    ) -> Result<Option<Server>> {
        let mut command = Command::new(&self.redis);
        let child = match command.args(arguments).stdout(Stdio::null()).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            child => child.with_context(|| format!("cannot start {}", self.redis.display()))?,
        };
        let server = self.register(child, address);
        let patience = Instant::now() + START_TIMEOUT;
        while !answers_ping(address) {
            if Instant::now() > patience {
                bail!("redis-server does not answer on {address}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(server))
    }

    /// Starts a program that says where it listens.
    fn listening(&self, command: &mut Command, log: Option<&Path>) -> Result<Server> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let (sender, lines) = sync_channel(64);
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            let open = |path| File::options().create(true).append(true).open(path);
            read_lines(stdout, sender.clone(), log.map(open).transpose()?);
            read_lines(stderr, sender, log.map(open).transpose()?);
        }
        // Registered before anything can fail, so that it is killed then.
        let mut server = self.register(child, SocketAddr::from(([0; 4], 0)));
        server.address =
            wait_for_address(&lines).with_context(|| format!("{program} did not start"))?;
        // It would block on a full pipe if nobody read on.
        thread::spawn(move || lines.into_iter().for_each(drop));
        Ok(server)
    }

    fn register(&self, child: Child, address: SocketAddr) -> Server {
        let running = Arc::clone(&self.running);
        running.lock().unwrap_or_else(PoisonError::into_inner).push(child.id());
        Server { child, address, running }
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits until it has ended by itself; false when that takes longer.
    pub(crate) fn has_ended_within(&mut self, patience: Duration) -> Result<bool> {
        let patience = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > patience {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }

    /// Where it speaks a dialect.
    pub(crate) fn target(&self, dialect: Dialect) -> Target {
        let path = match dialect {
            Dialect::Plain => "/ws",
            Dialect::CentrifugeJson | Dialect::CentrifugeProtobuf => "/connection/websocket",
        };
        Target { address: self.address, host: self.address.to_string(), path: path.to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The lock is held until it is reaped: its id may belong to another process after that.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.child.kill();
        let _ = self.child.wait();
        running.retain(|&pid| pid != self.child.id());
    }
}

/// The server that was built with this program.
pub(crate) fn beside_this_program() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("dunlin");
    let found = path.is_file().then_some(path);
    found.context("there is no dunlin beside this program: build it, or name it with --dunlin")
}

/// This machine in a few words.
pub(crate) fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model.trim());
    format!("{cores} cores ({model})")
}

fn read_lines(
    output: impl Read + Send + 'static,
    sender: SyncSender<String>,
    mut log: Option<File>,
) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(log) = &mut log {
                // A full disk is no reason to stop the reading.
                let _ = writeln!(log, "{line}");
            }
            if sender.send(line).is_err() {
                break;
            }
        }
    });
}

fn wait_for_address(lines: &Receiver<String>) -> Result<SocketAddr> {
    let patience = Instant::now() + START_TIMEOUT;
    let mut said = Vec::new();
    while let Ok(line) = lines.recv_timeout(patience.saturating_duration_since(Instant::now())) {
        if let Some(address) = address_in(&line) {
            return Ok(address);
        }
        said.push(line);
    }
    bail!("it did not say where it listens; it said: {}", said.join("\n"))
}

/// The address in `… listening on http://127.0.0.1:8080 …`, however the line is decorated.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, behind) = line.split_once("listening")?;
    let (_, address) = behind.split_once("://")?;
    let other = |letter: char| !letter.is_ascii_hexdigit() && !".:[]".contains(letter);
    address[..address.find(other).unwrap_or(address.len())].parse().ok()
}

fn answers_ping(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG\r\n")
    };
    ask().unwrap_or(false)
}

const START_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_any_decoration() {
        let expected = "127.0.0.1:8080".parse().ok();
        for line in [
            "listening on ws://127.0.0.1:8080/ws",
            "2026-01-01T00:00:00Z  INFO dunlin: listening on http://127.0.0.1:8080",
            r#"{"level":"INFO","message":"listening on http://127.0.0.1:8080","node":"a"}"#,
            r#"{"message":"listening","url":"http://127.0.0.1:8080"}"#,
        ] {
            assert_eq!(address_in(line), expected, "{line}");
        }
        assert_eq!(address_in("listening on http://[::1]:80/"), "[::1]:80".parse().ok());
        assert_eq!(address_in("connected to redis://127.0.0.1:6379"), None);
        assert_eq!(address_in("listening on http://somewhere"), None);
    }
}
