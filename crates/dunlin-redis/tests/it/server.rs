//! A Redis server of a test's own, on a Unix socket in a temporary directory.

use std::{
    env,
    net::TcpListener,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use dunlin_redis::url::RedisUrl;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

/// Ends with the test, however the test ends.
pub(crate) struct RedisServer {
    directory: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self { directory: TempDir::new().unwrap(), arguments, child: None };
        server.run();
        server
    }

    /// A server that is not running yet.
    pub(crate) fn prepare() -> Self {
        Self { directory: TempDir::new().unwrap(), arguments: Vec::new(), child: None }
    }

    /// For the next run.
    pub(crate) fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    }

    pub(crate) fn run(&mut self) {
        assert!(self.try_run(), "the server ended instead of listening");
    }

    /// Whether the server takes its arguments.
    pub(crate) fn try_run(&mut self) -> bool {
        let mut command = program();
        command
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--port", "0"])
            .args(["--enable-debug-command", "yes"])
            .arg("--dir")
            .arg(self.directory.path())
            .arg("--unixsocket")
            .arg(self.socket())
            .args(&self.arguments);
        let mut child = spawn(command);
        let mut ended = false;
        wait_until("the server listens", || {
            ended = child.try_wait().unwrap().is_some();
            // It accepts once it is ready; a file left by one that crashed refuses.
            ended || UnixStream::connect(self.socket()).is_ok()
        });
        self.child = (!ended).then_some(child);
        !ended
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub(crate) fn url(&self) -> RedisUrl {
        format!("redis+unix://{}", self.socket().display()).parse().unwrap()
    }

    /// An independent client.
    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(format!("redis+unix://{}", self.socket().display())).unwrap()
    }

    /// Runs one command, as `redis-cli` would.
    pub(crate) fn run_command<T: redis::FromRedisValue>(&self, words: &[&[u8]]) -> T {
        let mut connection = self.client().get_connection().unwrap();
        let mut command = redis::cmd(std::str::from_utf8(words[0]).unwrap());
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut connection).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        kill_process(pid, signal).unwrap();
    }

    /// Ends the server in good order.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.child.take().expect("it runs").wait().unwrap();
    }

    /// Ends the server at once, as a crash does.
    pub(crate) fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.crash();
    }
}

/// The server to test with: what `REDIS_SERVER` names, else the one that is installed.
pub(crate) fn program() -> Command {
    Command::new(env::var_os("REDIS_SERVER").unwrap_or("redis-server".into()))
}

pub(crate) fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "these tests need `redis-server` 7.0 or later in PATH (apt-get install redis-server), \
             or one that REDIS_SERVER names: {error}"
        )
    })
}

/// Polls a real process until it has come so far.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited too long until {what}");
        // Polls up to a deadline: a process tells nobody when it is there or gone.
        sleep(Duration::from_millis(5));
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Stands before a server and passes bytes on one, two or three at a time.
pub(crate) async fn slice(server: PathBuf, socket: PathBuf) {
    let listener = UnixListener::bind(socket).unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = tokio::net::UnixStream::connect(&server).await.unwrap();
        let ((from_client, to_client), (from_server, to_server)) =
            (tokio::io::split(client), tokio::io::split(server));
        tokio::spawn(pass_on(from_client, to_server));
        tokio::spawn(pass_on(from_server, to_client));
    }
}

async fn pass_on(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
) {
    let mut buffer = [0; 3];
    for length in (1..=3).cycle() {
        let Ok(length @ 1..) = from.read(&mut buffer[..length]).await else { return };
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
