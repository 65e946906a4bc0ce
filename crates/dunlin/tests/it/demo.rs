//! `dunlin demo` shows several nodes, and nothing of it is left afterwards: neither after Ctrl-C
//! nor when it is killed hard.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tungstenite::{Message, WebSocket};

use crate::cli::stderr;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running demo that has said its welcome. Dropping it kills it hard, which ends all of it.
struct Demo {
    process: Child,
    stdout: BufReader<ChildStdout>,
    /// Addresses of the pages.
    nodes: Vec<String>,
    /// Redis' socket.
    socket: PathBuf,
}

impl Demo {
    fn start(folder: &Path, nodes: usize) -> Self {
        let mut process = demo(folder)
            .args(["--nodes", &nodes.to_string(), "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut welcome = String::new();
        while !welcome.contains("Ctrl-C ends all of it.") {
            assert_ne!(stdout.read_line(&mut welcome).unwrap(), 0, "no welcome: {welcome}");
        }
        let words = || welcome.split_whitespace();
        let nodes: Vec<_> =
            words().filter_map(|word| Some(word.strip_prefix("http://")?.to_owned())).collect();
        let socket = words().find(|word| word.ends_with(".sock")).unwrap().into();
        Self { process, stdout, nodes, socket }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn is_all_there(&self) -> bool {
        self.nodes.iter().all(|node| TcpStream::connect(node).is_ok())
            && UnixStream::connect(&self.socket).is_ok()
    }

    fn is_all_gone(&self) -> bool {
        self.nodes.iter().all(|node| TcpStream::connect(node).is_err())
            && !self.socket.parent().unwrap().exists()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// The command, with its private folder below `folder` and no settings but PATH.
fn demo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    let path = std::env::vars_os().find(|(name, _)| name == "PATH").unwrap().1;
    command.arg("demo").env_clear().env("PATH", path).env("TMPDIR", folder);
    command
}

fn get(node: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(node).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        // Polls up to a deadline: a process tells nobody when it is there or gone.
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_node_has_its_name_and_page_and_ctrl_c_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), 3);
    assert_eq!(demo.nodes.len(), 3);
    assert!(demo.is_all_there());
    for (index, node) in demo.nodes.iter().enumerate() {
        let name = format!("\"node\":\"node-{}\"", index + 1);
        assert!(get(node, "/health").contains(&name));
        assert!(get(node, "/").contains("<title>Dunlin</title>"));
        assert!(get(node, "/memory").contains("demo/memory.js"));
    }
    demo.signal(Signal::INT);
    assert_eq!(demo.process.wait().unwrap().code(), Some(0));
    assert!(demo.is_all_gone());
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn what_is_said_on_one_node_or_in_redis_is_read_on_all() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), 2);
    let mut clients: Vec<_> = demo.nodes.iter().map(|node| join(node)).collect();

    clients[0].send(Message::text("over there")).unwrap();
    let mut redis = UnixStream::connect(&demo.socket).unwrap();
    for client in &mut clients {
        assert_eq!(client.read().unwrap(), Message::text("over there"));
    }
    redis.write_all(b"PUBLISH dunlin:chat_channel hello\r\n").unwrap();
    for client in &mut clients {
        assert_eq!(client.read().unwrap(), Message::text("hello"));
    }
}

#[test]
fn its_nodes_have_channels_for_the_second_tab() {
    let folder = tempfile::tempdir().unwrap();
    let subscribe = |node: &str| {
        let stream = TcpStream::connect(node).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = format!("ws://{node}/connection/websocket");
        let mut socket = tungstenite::client(address, stream).unwrap().0;
        let commands =
            "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"demo:room\"}}";
        socket.send(Message::text(commands)).unwrap();
        let mut answers = String::new();
        while !answers.contains("\"id\":2") {
            answers += socket.read().unwrap().to_text().unwrap();
        }
        answers
    };
    let demo = Demo::start(folder.path(), 2);
    for node in &demo.nodes {
        let answers = subscribe(node);
        assert!(
            !answers.contains("error") && answers.contains("\"recoverable\":true"),
            "{answers}"
        );
    }
}

fn join(node: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(node).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(format!("ws://{node}/ws"), stream).unwrap().0
}

#[test]
fn a_demo_that_is_killed_hard_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), 2);
    assert!(demo.is_all_there());
    demo.signal(Signal::KILL);
    assert_eq!(demo.process.wait().unwrap().signal(), Some(9));
    wait_until("all of the demo is gone", || demo.is_all_gone());
}

#[test]
fn a_second_ctrl_c_ends_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), 2);
    demo.signal(Signal::INT);
    // It does not matter whether the second one comes while the first is at work or after it.
    let _may_have_ended = kill_process(Pid::from_child(&demo.process), Signal::INT);
    demo.process.wait().unwrap();
    wait_until("all of the demo is gone", || demo.is_all_gone());
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_others_go_on_when_a_node_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path(), 2);
    let demo_id = demo.process.id().to_string();
    let victim = descendants(&demo_id).into_iter().find(|pid| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split('\0').nth(1) == Some("serve") && command.contains(&demo.nodes[1])
    });
    let victim = victim.unwrap().parse().unwrap();
    kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    let mut line = String::new();
    while !line.contains("node-2 was ended by signal 9") {
        assert_ne!(demo.stdout.read_line(&mut line).unwrap(), 0, "{line}");
    }
    assert!(get(&demo.nodes[0], "/ready").starts_with("HTTP/1.1 200"));
}

#[test]
fn without_redis_or_with_a_taken_port_it_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let any_port = ["--listen", "127.0.0.1:0"];
    let output = demo(folder.path()).env("PATH", folder.path()).args(any_port).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    for text in ["redis-server was not found", "apt-get install", "--redis redis://"] {
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = demo(folder.path()).args(["--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("{address} cannot be used")));
}

/// Process ids of all children and children's children, by ps.
fn descendants(root: &str) -> Vec<String> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let pairs: Vec<_> = table.lines().filter_map(|line| line.trim().split_once(' ')).collect();
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].clone();
        let children = pairs.iter().filter(|(_, ppid)| ppid.trim() == parent);
        found.extend(children.map(|(pid, _)| (*pid).to_owned()));
        next += 1;
    }
    found
}
