//! `compare`, with a second floor in the place of Dunlin.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{bench, is_running};

/// A program that takes Dunlin's arguments and is a floor.
fn stand_in(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, format!("#!/bin/sh\nexec '{}' floor\n", env!("CARGO_BIN_EXE_dunlin-bench")))
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn each_row_has_figures_and_a_verdict() {
    let mut command = bench();
    command.args(["compare", "--quick", "--connections", "20", "--windows", "1,32"]);
    command.args(["--seconds", "0.2", "--only", "fanout", "--only", "connect", "--dunlin"]);
    let Output { status, stdout, stderr } = command.arg(stand_in("rows")).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{text}{}", String::from_utf8_lossy(&stderr));
    let rows = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((rows("### "), rows("| 20 | 1 | "), rows("| 20 | 32 | ")), (2, 1, 1), "{text}");
    assert_eq!(text.matches("| 0 / 0 / 0 |").count(), 2, "{text}");
    for bar in ["(≤ 1.15: ", "(≤ 1.5: ", "(≥ 10000: "] {
        assert!(text.contains(bar), "no {bar} in {text}");
    }
}

#[test]
fn a_server_that_does_not_start_is_an_error() {
    let arguments = ["compare", "--quick", "--only", "idle", "--dunlin", "/bin/false"];
    let output = bench().args(arguments).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("/bin/false did not start"), "{message}");
    assert!(!output.status.success());
}

#[test]
fn a_signal_leaves_nothing_running() {
    let mut command = bench();
    command.args(["compare", "--only", "idle", "--quick", "--dunlin"]).arg(stand_in("signal"));
    let mut compare = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(compare.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "idle: floor\n");
    let id = compare.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let servers: Vec<&str> = children.split_ascii_whitespace().collect();
    assert_eq!(servers.len(), 2, "{children}");

    kill_process(Pid::from_child(&compare), Signal::TERM).unwrap();
    assert!(!compare.wait().unwrap().success());
    let patience = Instant::now() + Duration::from_secs(10);
    for server in servers {
        while is_running(server) {
            assert!(Instant::now() < patience, "{server} is still running");
            std::thread::yield_now();
        }
    }
}

#[test]
fn the_rows_with_history_have_figures_and_a_verdict() {
    let path = stand_in("history");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("floor", "floor --centrifuge"))
        .unwrap();
    let mut command = bench();
    command.args(["compare", "--quick", "--connections", "20", "--windows", "1,32"]);
    command.args(["--seconds", "0.2", "--only", "history", "--only", "subscribed", "--dunlin"]);
    let Output { status, stdout, stderr } = command.arg(path).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{text}{}", String::from_utf8_lossy(&stderr));
    assert_eq!(text.matches("| 0 / 0 / 0 |").count(), 2, "{text}");
    for bar in ["(≤ 1.2: ", "(≤ 1.6: ", "(≤ 3: "] {
        assert!(text.contains(bar), "no {bar} in {text}");
    }
}
