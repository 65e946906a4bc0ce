//! Those who come anew all the time: a client that connects, and somebody who asks `/health`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;

use crate::{
    clock::{self, SECOND},
    histogram,
    load::Dialect,
    server::Server,
    websocket::{self, FrameHeader},
};

/// Somebody who tries the same thing all the time, on a thread of their own.
pub(super) struct Probe {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// How often it went well, how long that took, and how often it did not.
#[derive(Debug)]
pub(super) struct Tries {
    pub(super) latency: Histogram<u64>,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    tries: Mutex<Tries>,
    /// When the attempt that is under way began; 0 between two.
    began: AtomicU64,
}

impl Default for Tries {
    fn default() -> Self {
        Self { latency: histogram::new(), failed: 0, first_failure: None }
    }
}

impl Probe {
    /// Connects from the first byte to the answer to connect.
    pub(super) fn newcomer(server: &Server) -> Self {
        let address = server.address;
        Self::start(move || connect(address))
    }

    pub(super) fn health(server: &Server) -> Self {
        let address = server.address;
        Self::start(move || get(address, "/health").map(drop))
    }

    /// Whether somebody new gets in now.
    pub(super) fn newcomer_gets_in(server: &Server) -> bool {
        connect(server.address).is_ok()
    }

    fn start(attempt: impl Fn() -> Result<()> + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let task = thread::spawn(move || {
            while !seen.stopped.load(Ordering::Relaxed) {
                let began = clock::now();
                seen.began.store(began, Ordering::Relaxed);
                let outcome = attempt();
                seen.began.store(0, Ordering::Relaxed);
                seen.tries.lock().unwrap_or_else(PoisonError::into_inner).note(began, outcome);
                thread::sleep(EVERY);
            }
        });
        Self { shared, task }
    }

    /// What it saw since the last call. An attempt that takes long counts before it ends.
    pub(super) fn take(&self) -> Tries {
        let tries = &self.shared.tries;
        let mut tries = std::mem::take(&mut *tries.lock().unwrap_or_else(PoisonError::into_inner));
        let began = self.shared.began.load(Ordering::Relaxed);
        let age = clock::now().saturating_sub(began);
        if began > 0 && age > LONG_NS {
            tries.latency.saturating_record(age);
        }
        tries
    }

    pub(super) fn stop(self) -> Result<()> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.task.join().map_err(|_| anyhow!("a probe fell over"))
    }
}

impl Tries {
    fn note(&mut self, began: u64, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.latency.saturating_record(clock::now() - began),
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert(format!("{error:#}"));
            }
        }
    }
}

/// One client from connect to the answer to its connect command; then it is gone.
fn connect(address: SocketAddr) -> Result<()> {
    let mut stream = open(address)?;
    write!(
        stream,
        "GET /connection/websocket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let mut received = read_until(&mut stream, Vec::new(), |bytes| head_end(bytes).is_some())?;
    let head = head_end(&received).context("no head")?;
    ensure!(received.starts_with(b"HTTP/1.1 101"), "{}", first_line(&received));
    let mut frame = Vec::new();
    let greeting = Dialect::CentrifugeJson.greeting(None);
    websocket::put_masked(&mut frame, websocket::TEXT, &greeting, MASK);
    stream.write_all(&frame)?;
    received = read_until(&mut stream, received.split_off(head), |bytes| {
        FrameHeader::read(bytes).is_some_and(|header| bytes.len() >= header.frame_bytes())
    })?;
    ensure!(received[0] & 0x0F == websocket::TEXT, "connect was not answered");
    frame.clear();
    websocket::put_masked(&mut frame, websocket::CLOSE, &1000_u16.to_be_bytes(), MASK);
    Ok(stream.write_all(&frame)?)
}

/// The body of a page that is there.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = open(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", first_line(&answer));
    let body = head_end(&answer).context("no head")?;
    Ok(String::from_utf8_lossy(&answer[body..]).into_owned())
}

fn open(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn read_until(
    stream: &mut TcpStream,
    mut received: Vec<u8>,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>> {
    let mut buffer = [0; 4096];
    while !enough(&received) {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "the server closed");
        received.extend_from_slice(&buffer[..count]);
    }
    Ok(received)
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

const LONG_NS: u64 = SECOND / 20;
const EVERY: Duration = Duration::from_millis(100);
/// Who waits longer counts as refused.
const PATIENCE: Duration = Duration::from_secs(5);
const MASK: [u8; 4] = [0x90, 0x33, 0x0A, 0x7F];
