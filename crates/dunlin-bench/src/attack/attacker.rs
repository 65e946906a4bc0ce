//! One attacker: its socket, what it has yet to send, and how it ended.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
        socket_with, sockopt,
    },
};

use crate::websocket::{self, FrameHeader};

/// An attacker that has a socket.
pub(super) struct Attacker {
    pub(super) socket: OwnedFd,
    pub(super) stage: Stage,
    /// Which one of all that were ever opened.
    pub(super) serial: u64,
    /// How often it was asked what it sends.
    pub(super) rounds: u64,
    /// It is not asked before its time.
    pub(super) rests: bool,
    /// What it is watched for: to read, to write.
    pub(super) watched: (bool, bool),
    pub(super) outgoing: Vec<u8>,
    received: Vec<u8>,
    status: Option<u16>,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    /// Its request for a 101 is on its way.
    Upgrading,
    /// It has what it wanted and does its worst.
    Raw,
    Upgraded,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    Code(u16),
    /// The stream ended behind this answer.
    Status(u16),
    EndOfStream,
    Socket(i32),
    Left,
    Alive,
    /// Alive, behind this answer.
    AliveAfter(u16),
    /// It had no connection yet when time was up.
    Waiting,
}

impl fmt::Display for How {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "{code}"),
            Self::Status(status) => write!(out, "HTTP {status}"),
            Self::EndOfStream => write!(out, "end of stream"),
            Self::Socket(errno) => write!(out, "{}", std::io::Error::from_raw_os_error(*errno)),
            Self::Left => write!(out, "left"),
            Self::Alive => write!(out, "alive"),
            Self::AliveAfter(status) => write!(out, "alive, HTTP {status}"),
            Self::Waiting => write!(out, "not connected"),
        }
    }
}

impl From<Errno> for How {
    fn from(errno: Errno) -> Self {
        Self::Socket(errno.raw_os_error())
    }
}

impl Attacker {
    /// Starts to connect from `source`.
    pub(super) fn start(
        serial: u64,
        source: Ipv4Addr,
        address: SocketAddr,
        receive_buffer: Option<usize>,
    ) -> Result<Self, How> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(bytes) = receive_buffer {
            sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        bind(&socket, &SocketAddr::new(source.into(), 0))?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(Self {
            socket,
            stage: Stage::Connecting,
            serial,
            rounds: 0,
            rests: false,
            watched: (false, true),
            outgoing: Vec::new(),
            received: Vec::new(),
            status: None,
        })
    }

    /// Whether the kernel has connected it.
    pub(super) fn connected(&self) -> Result<(), How> {
        Ok(sockopt::socket_error(&self.socket)??)
    }

    /// Sends what the socket takes; how many bytes.
    pub(super) fn flush(&mut self) -> Result<usize, How> {
        if self.outgoing.is_empty() {
            return Ok(0);
        }
        match send(&self.socket, &self.outgoing, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.outgoing.drain(..sent);
                Ok(sent)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads once, and hands on the code of each error that the server answered commands with; how
    /// many bytes came.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        on_refusal: impl FnMut(u32),
    ) -> Result<usize, How> {
        let received = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return Err(self.status.map_or(How::EndOfStream, How::Status)),
            Ok((received, _)) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(errno) => return Err(errno.into()),
        };
        let bytes = &buffer[..received];
        match self.stage {
            Stage::Upgraded => self.read_frames(bytes, on_refusal)?,
            Stage::Upgrading => self.read_head(bytes)?,
            _ => self.status = last_status(bytes).or(self.status),
        }
        Ok(received)
    }

    /// What it is, as nobody ended it.
    pub(super) fn still(&self) -> How {
        match (self.stage, self.status) {
            (Stage::Connecting | Stage::Upgrading, _) => How::Waiting,
            (Stage::Raw, Some(status)) => How::AliveAfter(status),
            _ => How::Alive,
        }
    }

    fn read_head(&mut self, bytes: &[u8]) -> Result<(), How> {
        self.received.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.received, b"\r\n\r\n") else { return Ok(()) };
        match last_status(&self.received[..end]) {
            Some(101) => {
                self.received.drain(..end + 4);
                self.stage = Stage::Upgraded;
                Ok(())
            }
            Some(status) => Err(How::Status(status)),
            None => Err(How::EndOfStream),
        }
    }

    fn read_frames(&mut self, bytes: &[u8], mut on_refusal: impl FnMut(u32)) -> Result<(), How> {
        self.received.extend_from_slice(bytes);
        let mut rest = &self.received[..];
        while let Some(header) = FrameHeader::read(rest) {
            let Some(payload) = rest.get(header.header_bytes..header.frame_bytes()) else { break };
            rest = &rest[header.frame_bytes()..];
            match header.opcode {
                websocket::CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |it| u16::from_be_bytes(*it));
                    return Err(How::Code(code));
                }
                websocket::TEXT => refusals(payload).for_each(&mut on_refusal),
                _ => {}
            }
        }
        let read = self.received.len() - rest.len();
        self.received.drain(..read);
        Ok(())
    }
}

/// The codes of the errors that commands were answered with.
fn refusals(payload: &[u8]) -> impl Iterator<Item = u32> {
    const BEFORE: &[u8] = b"\"error\":{\"code\":";
    memchr::memmem::find_iter(payload, BEFORE).map(|at| {
        let digits = payload[at + BEFORE.len()..].iter().take_while(|it| it.is_ascii_digit());
        digits.take(9).fold(0, |code, digit| code * 10 + u32::from(digit - b'0'))
    })
}

/// The status of the last answer that begins in these bytes.
fn last_status(bytes: &[u8]) -> Option<u16> {
    const BEFORE: &[u8] = b"HTTP/1.1 ";
    let at = memchr::memmem::rfind(bytes, BEFORE)? + BEFORE.len();
    std::str::from_utf8(bytes.get(at..at + 3)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_by_their_codes() {
        let text = br#"{"id":1,"error":{"code":103,"message":"m"}}
{"id":2,"subscribe":{}}
{"id":3,"error":{"code":108,"message":"m"}}"#;
        assert_eq!(refusals(text).collect::<Vec<_>>(), [103, 108]);
        let answers = b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 431 Too Large\r\n\r\n";
        assert_eq!(last_status(answers), Some(431));
        assert_eq!(last_status(b"HTTP/1.1 4"), None);
    }
}
