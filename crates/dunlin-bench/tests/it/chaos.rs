//! `chaos`, with the server of this workspace and a real Redis.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{bench, is_running, report};

/// The server beside the program under test; built if nobody has built it.
pub(crate) fn dunlin() -> PathBuf {
    let dunlin = Path::new(env!("CARGO_BIN_EXE_dunlin-bench")).with_file_name("dunlin");
    if !dunlin.is_file() {
        let target = dunlin.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--package", "dunlin", "--target-dir"]).arg(target);
        assert!(cargo.status().unwrap().success());
    }
    dunlin
}

#[test]
fn a_short_run_keeps_every_promise() {
    let dunlin = dunlin();
    let mut arguments = vec!["chaos", "--nodes", "2", "--clients", "20", "--channels", "5"];
    arguments.extend(["--rate", "50", "--minutes", "0.1", "--seed", "1"]);
    arguments.extend(["--faults", "cut,kill-pubsub", "--dunlin", dunlin.to_str().unwrap()]);
    let (success, report) = report(&arguments);
    assert!(success && report["right"] == true, "{report:#}");
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.len() >= 2, "{report:#}");
    for fault in faults {
        assert!(fault["what"].as_array().is_some_and(|done| !done.is_empty()), "{fault:#}");
    }
    for seen in ["acknowledged", "deliveries", "reconnects", "recovered"] {
        assert!(report["seen"][seen].as_u64().unwrap() > 20, "{report:#}");
    }
}

#[test]
fn faults_are_listed_and_others_refused() {
    let output = bench().args(["chaos", "--faults", "help"]).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    for name in ["black-hole-13", "older-snapshot", "failover-lossy", "slots"] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{list}");
    }
    for (faults, expected) in [
        ("nonsense", "there is no fault nonsense; `--faults help` lists them"),
        ("slots", "slots makes no sense with --topology single"),
    ] {
        let output = bench().args(["chaos", "--faults", faults]).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expected) && !output.status.success(), "{message}");
    }
}

#[test]
fn a_signal_leaves_nothing_running_not_even_what_stands_still() {
    let mut command = bench();
    command.args(["chaos", "--nodes", "0", "--faults", "stop-redis", "--topology", "list"]);
    let mut chaos = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(chaos.stderr.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("stands still")));
    let id = chaos.id();
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let children = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")));
    let children: String = children.map(|ids| ids.unwrap_or_default()).collect();
    let servers: Vec<&str> = children.split_ascii_whitespace().collect();
    assert_eq!(servers.len(), 3, "{children}");

    kill_process(Pid::from_child(&chaos), Signal::TERM).unwrap();
    assert!(!chaos.wait().unwrap().success());
    let patience = Instant::now() + Duration::from_secs(10);
    for server in servers {
        while is_running(server) {
            assert!(Instant::now() < patience, "{server} is still running");
            std::thread::yield_now();
        }
    }
}
