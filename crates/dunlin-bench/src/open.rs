//! Opens many WebSocket connections at once, `concurrency` of them in flight, and times each.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::Histogram;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
        socket_with, sockopt,
    },
};

use crate::{
    clock::{self, SECOND},
    epoll::Epoll,
    histogram,
    target::Target,
    websocket,
};

/// An upgraded connection.
pub(crate) struct Opened {
    /// Which of the wanted connections it is.
    pub(crate) number: usize,
    /// The socket, non-blocking.
    pub(crate) socket: OwnedFd,
    /// What the server sent right behind its 101.
    pub(crate) leftover: Vec<u8>,
}

/// How the opening went.
pub(crate) struct Opening {
    /// The connections that were upgraded, in the order in which that happened.
    pub(crate) opened: Vec<Opened>,
    /// Those that were not, by kind.
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// From the call of `connect` to the complete 101, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// From the first `connect` to the last 101.
    pub(crate) elapsed: Duration,
}

/// Why a connection was not upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The kernel said no: refused, reset, out of ports …
    Socket(i32),
    /// The server closed the connection without an answer.
    Closed,
    /// An answer, but not a 101.
    Status(u16),
    /// A 101 without the right `Sec-WebSocket-Accept`, or no HTTP at all.
    Answer,
    /// No complete answer within ten seconds.
    Timeout,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(errno) => write!(out, "{}", std::io::Error::from_raw_os_error(*errno)),
            Self::Closed => write!(out, "closed without an answer"),
            Self::Status(status) => write!(out, "http status {status}"),
            Self::Answer => write!(out, "not a valid 101"),
            Self::Timeout => write!(out, "no answer in {} s", TIMEOUT_NS / SECOND),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Socket(errno.raw_os_error())
    }
}

/// Raises the open file limit as far as it goes.
///
/// # Errors
/// It is too low for `connections` even then.
pub(crate) fn allow_connections(connections: usize) -> Result<()> {
    let limit = rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the file limit")?;
    ensure!(
        connections as u64 + SPARE_FILES <= limit,
        "{connections} connections need {} open files but the hard limit is {limit}: \
         raise it (ulimit -Hn, LimitNOFILE) or spread them with --processes",
        connections as u64 + SPARE_FILES,
    );
    Ok(())
}

/// Opens one connection per item of `wanted` (its number, where to, which path).
pub(crate) fn open<'a>(
    wanted: impl Iterator<Item = (usize, &'a Target, String)>,
    concurrency: usize,
) -> Result<Opening> {
    let mut opener = Opener {
        epoll: Epoll::new()?,
        slots: (0..concurrency.max(1)).map(|_| None).collect(),
        opening: Opening {
            opened: Vec::new(),
            failures: BTreeMap::new(),
            latency: histogram::new(),
            elapsed: Duration::ZERO,
        },
    };
    let start = clock::now();
    let mut wanted = wanted;
    let mut free: Vec<usize> = (0..opener.slots.len()).collect();
    loop {
        while let Some(slot) = free.pop() {
            let Some((number, target, path)) = wanted.next() else { break };
            match Attempt::start(number, target, &path, &opener.epoll, slot) {
                Ok(attempt) => opener.slots[slot] = Some(attempt),
                Err(errno) => {
                    opener.fail(errno.into());
                    free.push(slot);
                }
            }
        }
        if opener.slots.iter().all(Option::is_none) {
            break;
        }
        opener.turn(&mut free)?;
    }
    opener.opening.elapsed = Duration::from_nanos(clock::now() - start);
    Ok(opener.opening)
}

struct Opener {
    epoll: Epoll,
    slots: Vec<Option<Attempt>>,
    opening: Opening,
}

impl Opener {
    fn turn(&mut self, free: &mut Vec<usize>) -> Result<()> {
        let patience = clock::now() + SECOND;
        self.epoll.wait(Some(patience))?;
        for index in 0..self.epoll.ready_count() {
            let Some(ready) = self.epoll.ready(index) else { continue };
            let Some(attempt) = &mut self.slots[ready.token] else { continue };
            match attempt.advance(&self.epoll, ready.token) {
                Ok(false) => continue,
                Ok(true) => self.succeed(ready.token),
                Err(failure) => {
                    self.slots[ready.token] = None;
                    self.fail(failure);
                }
            }
            free.push(ready.token);
        }
        if clock::now() >= patience {
            for slot in 0..self.slots.len() {
                let late = |attempt: &Attempt| attempt.started_ns + TIMEOUT_NS < clock::now();
                if self.slots[slot].as_ref().is_some_and(late) {
                    self.slots[slot] = None;
                    self.fail(Failure::Timeout);
                    free.push(slot);
                }
            }
        }
        Ok(())
    }

    fn succeed(&mut self, slot: usize) {
        let Some(attempt) = self.slots[slot].take() else { return };
        self.opening.latency.saturating_record(clock::now() - attempt.started_ns);
        // The caller watches it with an epoll of its own.
        let _ = self.epoll.remove(&attempt.socket);
        self.opening.opened.push(attempt.into_opened());
    }

    fn fail(&mut self, failure: Failure) {
        *self.opening.failures.entry(failure).or_default() += 1;
    }
}

/// A connection on its way: connecting until the request is sent, then waiting for the answer.
pub(crate) struct Attempt {
    number: usize,
    socket: OwnedFd,
    key: String,
    request: String,
    request_sent: bool,
    received: Vec<u8>,
    started_ns: u64,
}

impl Attempt {
    /// Starts it and watches it under the token `slot`.
    pub(crate) fn start(
        number: usize,
        target: &Target,
        path: &str,
        epoll: &Epoll,
        slot: usize,
    ) -> Result<Self, Errno> {
        let started_ns = clock::now();
        let family =
            if target.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(source) = source_address(number, target.address) {
            bind(&socket, &source)?;
        }
        match connect(&socket, &target.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        epoll.add_writable(&socket, slot)?;
        let key = BASE64_STANDARD.encode(key_bytes(number as u64 ^ started_ns));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n",
            target.host
        );
        let received = Vec::new();
        Ok(Self { number, socket, key, request, request_sent: false, received, started_ns })
    }

    /// Does what can be done now; true once the connection is upgraded.
    pub(crate) fn advance(&mut self, epoll: &Epoll, slot: usize) -> Result<bool, Failure> {
        if !self.request_sent {
            sockopt::socket_error(&self.socket)??;
            // A fresh socket has room for these few bytes, always.
            let sent = send(&self.socket, self.request.as_bytes(), SendFlags::NOSIGNAL)?;
            if sent != self.request.len() {
                return Err(Failure::Closed);
            }
            self.request_sent = true;
            epoll.watch(&self.socket, slot, false)?;
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
            Ok((0, _)) => return Err(Failure::Closed),
            Ok((received, _)) => self.received.extend_from_slice(&buffer[..received]),
            Err(Errno::AGAIN) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        let Some(head) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return if self.received.len() < ANSWER_BYTES_MAX {
                Ok(false)
            } else {
                Err(Failure::Answer)
            };
        };
        check_answer(&self.received[..head], &self.key)?;
        self.received.drain(..head + 4);
        Ok(true)
    }

    /// What an upgraded one has become; it is still watched.
    pub(crate) fn into_opened(self) -> Opened {
        Opened { number: self.number, socket: self.socket, leftover: self.received }
    }
}

fn check_answer(head: &[u8], key: &str) -> Result<(), Failure> {
    let head = std::str::from_utf8(head).map_err(|_| Failure::Answer)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    match status {
        Some(101) => {}
        Some(status) => return Err(Failure::Status(status)),
        None => return Err(Failure::Answer),
    }
    let accept = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-accept").then(|| value.trim())
    });
    if accept == Some(&websocket::accept_key(key)) { Ok(()) } else { Err(Failure::Answer) }
}

/// One address has some 28,000 ports towards a target, but all of 127.0.0.0/8 is this machine.
fn source_address(number: usize, target: SocketAddr) -> Option<SocketAddr> {
    let hop = u8::try_from(number / CONNECTIONS_PER_SOURCE).ok()?.checked_add(1)?;
    let far = target.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) || hop == 1;
    (!far).then(|| SocketAddr::new(Ipv4Addr::new(127, 0, 0, hop).into(), 0))
}

/// Sixteen bytes that differ from connection to connection (splitmix64).
fn key_bytes(seed: u64) -> [u8; 16] {
    let half = |seed: u64| {
        let mixed = (seed ^ seed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB)
    };
    (u128::from(half(seed)) << 64 | u128::from(half(!seed))).to_be_bytes()
}

const TIMEOUT_NS: u64 = 10 * SECOND;
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// Files a process of this tool needs besides its connections.
const SPARE_FILES: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_101_is_an_upgrade() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let cases = [
            ("HTTP/1.1 101 S\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", Ok(())),
            (
                "HTTP/1.1 101 S\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOO=",
                Err(Failure::Answer),
            ),
            ("HTTP/1.1 101 S\r\nUpgrade: websocket", Err(Failure::Answer)),
            ("HTTP/1.1 503 Service Unavailable", Err(Failure::Status(503))),
            ("HTTP/1.1 ", Err(Failure::Answer)),
            ("SSH-2.0", Err(Failure::Answer)),
        ];
        for (head, expected) in cases {
            assert_eq!(check_answer(head.as_bytes(), key), expected, "{head}");
        }
    }

    #[test]
    fn connections_beyond_the_ports_of_one_address_come_from_the_next() {
        let loopback = "127.0.0.1:80".parse().unwrap();
        assert_eq!(source_address(19_999, loopback), None);
        assert_eq!(source_address(20_000, loopback), Some("127.0.0.2:0".parse().unwrap()));
        assert_eq!(source_address(59_999, loopback), Some("127.0.0.3:0".parse().unwrap()));
        assert_eq!(source_address(59_999, "10.0.0.1:80".parse().unwrap()), None);
    }
}
