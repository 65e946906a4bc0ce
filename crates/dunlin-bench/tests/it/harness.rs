//! Starts the binary; ends what it started.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// A running floor; killed when dropped.
pub(crate) struct Floor {
    child: Child,
    /// Its URL.
    pub(crate) url: String,
}

impl Floor {
    /// Starts a floor on a free port.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child =
            bench().arg("floor").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }

    /// Its process id, as an argument.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The binary under test.
pub(crate) fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dunlin-bench"))
}

/// Runs a verb with `--json`; whether it succeeded, and its report.
pub(crate) fn report(arguments: &[&str]) -> (bool, Value) {
    let Output { status, stdout, stderr } = bench().args(arguments).arg("--json").output().unwrap();
    let value = serde_json::from_slice(&stdout)
        .unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&stderr)));
    (status.success(), value)
}

/// Whether a process runs; one that waits to be reaped does not.
pub(crate) fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, behind)| !behind.trim_start().starts_with('Z'))
}
