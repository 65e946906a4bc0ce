//! Asks every node all the time whether it is ready, and notes when its answer changes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::Serialize;

use super::scene::Window;
use crate::{check::journal::Signals, clock};

/// An answer that differs from the one before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) at: u64,
    pub(crate) ready: bool,
    /// The reason it gives, or that there was no answer.
    pub(crate) words: String,
}

/// A thread per node that asks.
pub(crate) struct Readiness {
    stop: Arc<AtomicBool>,
    nodes: Vec<JoinHandle<Vec<Change>>>,
}

impl Readiness {
    pub(crate) fn watch(nodes: &[SocketAddr], signals: &Arc<Signals>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = |&address: &SocketAddr| {
            let (stop, signals) = (Arc::clone(&stop), Arc::clone(signals));
            thread::spawn(move || {
                let (mut changes, mut was_ready) = (Vec::<Change>::new(), true);
                while !stop.load(Ordering::Relaxed) {
                    let at = clock::now();
                    let (ready, words) = ask(address);
                    match (was_ready, ready) {
                        (true, false) => signals.unready.fetch_add(1, Ordering::Relaxed),
                        (false, true) => signals.unready.fetch_sub(1, Ordering::Relaxed),
                        _ => 0,
                    };
                    was_ready = ready;
                    let same = |last: &Change| (last.ready, &last.words) == (ready, &words);
                    if !changes.last().is_some_and(same) {
                        changes.push(Change { at, ready, words });
                    }
                    thread::sleep(EVERY);
                }
                changes
            })
        };
        let nodes = nodes.iter().map(watch).collect();
        Self { stop, nodes }
    }

    /// By node, what it answered.
    pub(crate) fn finish(self) -> Vec<Vec<Change>> {
        self.stop.store(true, Ordering::Relaxed);
        self.nodes.into_iter().map(|node| node.join().unwrap_or_default()).collect()
    }
}

/// What one node said about a fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Said {
    pub(crate) node: usize,
    /// Seconds from the beginning of the fault until it first said that it is not ready.
    pub(crate) unready_after: f64,
    /// Seconds from the end of the fault until it said for good that it is (0: before the end);
    /// `None`: not before the next fault.
    pub(crate) ready_after: Option<f64>,
    /// The reasons it gave.
    pub(crate) words: Vec<String>,
}

/// What nodes said during a window; nothing of those that were ready all the time.
pub(crate) fn during(nodes: &[Vec<Change>], window: &Window) -> Vec<Said> {
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / clock::SECOND as f64;
    let said = |(node, changes): (usize, &Vec<Change>)| {
        let (mut said, mut unready) = (None::<Said>, false);
        let within = changes.iter().filter(|it| (window.began..window.until).contains(&it.at));
        for change in within {
            if change.ready {
                if let Some(said) = said.as_mut().filter(|_| unready) {
                    said.ready_after = Some(seconds(window.ended, change.at));
                }
            } else {
                let unready_after = seconds(window.began, change.at);
                let said =
                    said.get_or_insert_with(|| Said { node, unready_after, ..Said::default() });
                said.ready_after = None;
                if !said.words.contains(&change.words) {
                    said.words.push(change.words.clone());
                }
            }
            unready = !change.ready;
        }
        said
    };
    nodes.iter().enumerate().filter_map(said).collect()
}

/// Whether a node says that it is ready, and its words.
fn ask(address: SocketAddr) -> (bool, String) {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request =
            format!("GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    match answer() {
        Ok(answer) => words(&answer),
        Err(_) => (false, "no answer".to_owned()),
    }
}

/// The status, and what the body says beside the node's name.
fn words(answer: &str) -> (bool, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let ready = head.split(' ').nth(1) == Some("200");
    let words = match serde_json::from_str(body) {
        Ok(serde_json::Value::Object(mut object)) => {
            object.remove("node");
            match object.remove("status") {
                Some(serde_json::Value::String(status)) if object.is_empty() => status,
                Some(status) => format!("{status} {}", serde_json::Value::Object(object)),
                None => serde_json::Value::Object(object).to_string(),
            }
        }
        _ => body.trim().to_owned(),
    };
    (ready, words)
}

const EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
