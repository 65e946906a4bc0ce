//! A private Redis that can be stopped and started again on the same port.

use std::{
    env,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use redis::Connection;
use tempfile::TempDir;

use super::PATIENCE;

pub(crate) struct Redis {
    process: Child,
    port: u16,
    password: Option<&'static str>,
    folder: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with_password(None)
    }

    pub(crate) fn with_password(password: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Below the ports that outgoing connections use, so that it is still free at a restart.
        loop {
            let port = fastrand::u16(10_000..30_000);
            if let Some(process) = spawn(port, password, &folder) {
                return Self { process, port, password, folder };
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn url(&self) -> String {
        match self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// A connection as any other program makes it.
    pub(crate) fn connect(&self) -> Connection {
        connect(&self.url()).unwrap()
    }

    /// Kills it; its clients notice at once.
    pub(crate) fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.process = spawn(self.port, self.password, &self.folder).expect("the port is free");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have been stopped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a server; none when it ends at once, most likely because the port is taken.
fn spawn(port: u16, password: Option<&str>, folder: &TempDir) -> Option<Child> {
    let program = env::var_os("REDIS_SERVER").unwrap_or("redis-server".into());
    let mut command = Command::new(program);
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .stdout(Stdio::null());
    let auth = password.map_or(String::new(), |password| format!(":{password}@"));
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    let mut process = command.spawn().expect("redis-server is installed");
    let url = format!("redis://{auth}127.0.0.1:{port}");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        // Somebody else may answer on that port: it has to be this process.
        let pid = connect(&url).ok().and_then(|mut connection| {
            let facts: String = redis::cmd("INFO").arg("server").query(&mut connection).ok()?;
            facts.lines().find_map(|line| line.strip_prefix("process_id:")?.parse::<u32>().ok())
        });
        match pid {
            Some(pid) if process.id() == pid => return Some(process),
            Some(_) => break,
            // Polls up to a deadline: Redis tells nobody when it listens.
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}

fn connect(url: &str) -> redis::RedisResult<Connection> {
    let connection = redis::Client::open(url)?.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}
