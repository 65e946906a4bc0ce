//! A node: the built program as a process of its own.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, PATIENCE, get, wait_until};

/// How to start a node.
pub(crate) struct NodeCommand {
    command: Command,
    /// Where a configuration is that the test wrote.
    folder: Option<TempDir>,
}

impl NodeCommand {
    pub(crate) fn new() -> Self {
        Self::through(Command::new(env!("CARGO_BIN_EXE_dunlin")))
    }

    /// Starts the program by way of `sh`, after `script`.
    pub(crate) fn after(script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{script} && exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_dunlin"));
        Self::through(command)
    }

    fn through(mut command: Command) -> Self {
        command.env_clear().args(["--log-format", "text", "--set", "listen=127.0.0.1:0"]);
        Self { command, folder: None }
    }

    /// With this listening socket handed over.
    pub(crate) fn with_socket(listener: &TcpListener) -> Self {
        let mut node = Self::after("export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&0");
        node.command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
        node
    }

    /// One `--set` for each.
    pub(crate) fn set(mut self, settings: &[&str]) -> Self {
        for setting in settings {
            self.command.args(["--set", setting]);
        }
        self
    }

    /// With a configuration file.
    pub(crate) fn file(mut self, path: &Path) -> Self {
        self.command.arg("--config").arg(path);
        self
    }

    /// With a configuration file that holds this text.
    pub(crate) fn text(self, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dunlin.toml");
        fs::write(&path, config).unwrap();
        Self { folder: Some(folder), ..self.file(&path) }
    }

    pub(crate) fn spawn(mut self) -> Node {
        let mut process = self.command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(process.stderr.take().unwrap());
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        let address = ([0, 0, 0, 0], 0).into();
        Node { process, address, log, first_files: 0, _folder: self.folder }
    }

    /// Spawns and waits until it listens.
    pub(crate) fn start(self) -> Node {
        let mut node = self.spawn();
        node.wait_for_log("listening on http");
        let log = node.log();
        let (_, address) = log.split_once("listening on http").unwrap();
        let address = address.trim_start_matches('s').trim_start_matches("://");
        node.address = address.split_whitespace().next().unwrap().parse().unwrap();
        node.first_files = node.open_files();
        node
    }
}

/// A running node; killed when dropped.
pub(crate) struct Node {
    process: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    /// Files that it had open before anybody came.
    first_files: usize,
    /// Where its configuration is.
    _folder: Option<TempDir>,
}

/// The page of metrics: name with labels to value.
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// The value of a metric, or the sum of all its values by label.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let is_of = |key: &str| {
            key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.0.iter().filter(|(key, _)| is_of(key)).map(|(_, value)| value).sum()
    }

    /// How many connections ended for `reason`.
    pub(crate) fn closed(&self, reason: &str) -> f64 {
        let is_it = |key: &&String| {
            key.starts_with("dunlin_connections_closed_total{")
                && key.contains(&format!("reason=\"{reason}\""))
        };
        self.0.keys().filter(is_it).map(|key| self.0[key]).sum()
    }
}

impl Node {
    /// A node with the memory broker.
    pub(crate) fn start(settings: &[&str]) -> Self {
        NodeCommand::new().set(settings).start()
    }

    pub(crate) fn join(&self, channel: &str) -> Client {
        Client::join(self.address, channel)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            let ended = self.process.try_wait().unwrap();
            let is_late = Instant::now() > deadline;
            assert!(ended.is_none() && !is_late, "no {text:?}, {ended:?}:\n{}", self.log());
            // Polls up to a deadline: the log is another thread's.
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn status_of(&self, path: &str) -> u16 {
        get(self.address, path).status
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let page = get(self.address, "/metrics").body;
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        let metrics = Metrics(values.collect());
        let accepted = metrics.sum("dunlin_connections_accepted_total");
        let active = metrics.sum("dunlin_connections_active");
        let closed = metrics.sum("dunlin_connections_closed_total");
        assert_eq!(accepted, active + closed, "conservation of connections");
        metrics
    }

    /// Waits until nothing is left of any client.
    pub(crate) fn wait_until_empty(&self) {
        const TABLES: [&str; 8] = [
            "connections_active",
            "subscriptions",
            "backlog_bytes",
            "answers_bytes",
            "addresses",
            "users",
            "members",
            "inquiries",
        ];
        let left = || {
            let metrics = self.metrics();
            let count = |name: &str| metrics.sum(&format!("dunlin_{name}"));
            // Whoever asks for the page is at the door.
            let visitors = ("handshakes", count("handshakes") - 1.0);
            let tables = TABLES.map(|name| (name, count(name))).into_iter().chain([visitors]);
            tables.filter(|(_, count)| *count != 0.0).collect::<Vec<_>>()
        };
        let deadline = Instant::now() + PATIENCE;
        while !left().is_empty() {
            assert!(Instant::now() < deadline, "left of all clients: {:?}", left());
            // Polls up to a deadline: nobody is told when a client is forgotten.
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.metrics().sum("dunlin_panics_total"), 0.0, "{}", self.log());
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    /// Waits until the node is as it was when it started: nothing is left of any client, no channel
    /// lingers, and all files are closed.
    pub(crate) fn assert_conserved(&self) {
        self.wait_until_empty();
        wait_until("no channel lingers", || self.metrics().sum("dunlin_channels") == 0.0);
        wait_until("all files are closed", || self.open_files() <= self.first_files);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Resident memory.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Time this node has spent on all cores, to a hundredth of a second.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |place: usize| fields[place].parse::<u64>().unwrap();
        let tick = Duration::from_secs(1) / rustix::param::clock_ticks_per_second() as u32;
        tick * u32::try_from(ticks(11) + ticks(12)).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Ends it as hard as can be.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        wait_until("the node has ended", || self.has_ended());
        self.process.wait().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("--- log of the node at {}\n{}", self.address, self.log());
        }
    }
}
