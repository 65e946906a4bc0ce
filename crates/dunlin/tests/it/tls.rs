//! TLS as configured, seen by `dunlin healthcheck`, which takes just the certificate in the file.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::dunlin;

const PATIENCE: Duration = Duration::from_secs(20);

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn write_pair(folder: &Path) {
    let names = vec!["localhost".to_owned()];
    let pair = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(folder.join("cert.pem"), pair.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
}

#[test]
fn sighup_brings_a_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let cert_file = format!("tls.cert_file={}", folder.path().join("cert.pem").display());
    let key_file = format!("tls.key_file={}", folder.path().join("key.pem").display());
    let flags = ["--listen", &address, "--set", &cert_file, "--set", &key_file];
    let is_healthy = || dunlin(&[&["healthcheck"], &flags[..]].concat()).status.success();
    let wait_until_healthy = |when: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !is_healthy() {
            assert!(Instant::now() < deadline, "not healthy {when}");
            // Polls up to a deadline: a process tells nobody when it is there or gone.
            thread::sleep(Duration::from_millis(20));
        }
    };

    let serve = Command::new(env!("CARGO_BIN_EXE_dunlin"))
        .arg("serve")
        .args(flags)
        .env_clear()
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let node = Node(serve);
    wait_until_healthy("after the start");

    write_pair(folder.path());
    assert!(!is_healthy(), "the node cannot have the new certificate yet");
    kill_process(Pid::from_child(&node.0), Signal::HUP).unwrap();
    wait_until_healthy("after SIGHUP");
}
