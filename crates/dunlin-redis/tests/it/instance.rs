//! One server process on a port of its own, that can be killed, stopped and started again: a part
//! of a cluster, or of a primary with its replicas and sentinels.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    process::Child,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use redis::{FromRedisValue, RedisResult};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    resp::RawLink,
    server::{program, spawn, wait_until},
};

/// Ends with the test, however the test ends.
pub(crate) struct Instance {
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
    is_paused: bool,
}

impl Instance {
    /// One that is not running yet; its port is settled.
    pub(crate) fn prepare() -> Self {
        let folder = TempDir::new().unwrap();
        Self { folder, port: lasting_port(), arguments: Vec::new(), child: None, is_paused: false }
    }

    /// A server that keeps nothing on disk.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut instance = Self::prepare();
        let kept = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
        let arguments = kept.iter().chain(arguments).map(|&argument| argument.to_owned());
        instance.arguments = arguments.collect();
        instance.run();
        instance
    }

    /// A sentinel with this configuration.
    pub(crate) fn start_sentinel(mut self, configuration: &str) -> Self {
        let file = self.folder.path().join("sentinel.conf");
        fs::write(&file, configuration).unwrap();
        self.arguments = vec!["--sentinel".to_owned()];
        self.run();
        self
    }

    /// Runs it, again with the same folder and port if it ran before, and waits until it answers.
    pub(crate) fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let mut command = program();
        // A sentinel's file comes first, and is written by it.
        let file = self.folder.path().join("sentinel.conf");
        if file.exists() {
            command.arg(file);
        }
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(self.folder.path())
            .arg("--logfile")
            .arg(self.folder.path().join("log"))
            .args(&self.arguments);
        self.child = Some(spawn(command));
        wait_until("the server answers", || {
            let ended = self.child.as_mut().expect("it runs").try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {}", self.log());
            self.try_ask::<String>(&["PING"]).is_ok()
        });
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it wrote to its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Whether it can answer.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some() && !self.is_paused
    }

    /// Kills it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.is_paused = false;
    }

    /// Lets it stand still, connections open, until [`Instance::resume`].
    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.is_paused = true;
    }

    pub(crate) fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.is_paused = false;
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("it runs")), signal).unwrap();
    }

    /// Runs one command that must succeed, as `redis-cli` would.
    #[track_caller]
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub(crate) fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let client = redis::Client::open(format!("redis://{}", self.address()))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut connection)
    }

    /// A connection that shows whatever the server says.
    pub(crate) fn link(&self) -> RawLink {
        RawLink::open(self.port)
    }

    /// A line of INFO, or of CLUSTER INFO.
    pub(crate) fn fact(&self, command: &[&str], name: &str) -> Option<String> {
        let facts: String = self.try_ask(command).ok()?;
        let mut lines = facts.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::to_owned)
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.is_running()
            && self.fact(&["INFO", "replication"], "role").as_deref() == Some("master")
    }

    /// Whether it is a replica that has all its primary has.
    pub(crate) fn is_in_step(&self) -> bool {
        self.fact(&["INFO", "replication"], "master_link_status").as_deref() == Some("up")
    }

    /// What kind of server it is.
    pub(crate) fn product(&self) -> Product {
        let facts = ["INFO", "server"];
        let (name, version) = match self.fact(&facts, "valkey_version") {
            Some(version) => ("valkey", version),
            None => ("redis", self.fact(&facts, "redis_version").unwrap()),
        };
        let mut numbers = version.split('.').map(|number| number.parse().unwrap());
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        Product { is_valkey: name == "valkey", version }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The kinds of server differ in what no documentation tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) is_valkey: bool,
    pub(crate) version: (u32, u32),
}

impl Product {
    /// Redis before 7.2 and Valkey's fork of that.
    pub(crate) fn is_redis_7_0(self) -> bool {
        !self.is_valkey && self.version < (7, 2)
    }

    pub(crate) fn moves_slots_atomically(self) -> bool {
        self.is_valkey && self.version >= (9, 0)
    }
}

/// A free port below those that outgoing connections use, so that it is still free at a restart.
pub(crate) fn lasting_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new(RandomState::new().hash_one(0_u8) as u16));
    loop {
        let port = PORTS_FROM + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

const PORTS_FROM: u16 = 10_000;
const PORTS: u16 = 20_000;
/// How long a server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
