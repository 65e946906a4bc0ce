//! One client connection: reads frames out of the shared buffer, answers pings, keeps what is
//! cut off.

use std::{fmt, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use crate::{
    epoll::Epoll,
    websocket::{self, FrameHeader},
};

/// An open connection.
pub(crate) struct Connection {
    socket: OwnedFd,
    /// The start of a frame whose rest has not come.
    partial: Vec<u8>,
    /// Frames to send; empty but for the moment between `queue` and `flush`, or a full socket.
    outgoing: Vec<u8>,
    /// Whether the socket is watched for room to write.
    watched_for_room: bool,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// A close frame with this code (1005: without one).
    Code(u16),
    /// The stream ended without a close frame.
    Eof,
    /// The kernel reported an error, such as a reset.
    Socket(i32),
    /// A frame no server may send.
    Protocol,
}

impl fmt::Display for Ending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "{code}"),
            Self::Eof => write!(out, "end of stream"),
            Self::Socket(errno) => write!(out, "{}", std::io::Error::from_raw_os_error(*errno)),
            Self::Protocol => write!(out, "protocol error"),
        }
    }
}

impl From<Errno> for Ending {
    fn from(errno: Errno) -> Self {
        Self::Socket(errno.raw_os_error())
    }
}

impl Connection {
    /// `leftover` is what came right behind the handshake.
    pub(crate) fn new(socket: OwnedFd, leftover: Vec<u8>) -> Self {
        Self { socket, partial: leftover, outgoing: Vec::new(), watched_for_room: false }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Reads what the socket has into `buffer`, behind what was cut off last time; says how many
    /// bytes of it are filled then.
    #[inline]
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Ending> {
        let kept = self.partial.len();
        if kept >= buffer.len() {
            return Err(Ending::Protocol);
        }
        buffer[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        match recv(&self.socket, &mut buffer[kept..], RecvFlags::empty()) {
            Ok((0, _)) => Err(Ending::Eof),
            Ok((received, _)) => Ok(kept + received),
            Err(Errno::AGAIN | Errno::INTR) => Ok(kept),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Hands every complete message of `bytes` to `on_message`, answers pings (and says how many),
    /// keeps the rest.
    #[inline]
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        mut on_message: impl FnMut(&[u8]),
    ) -> Result<u64, Ending> {
        let mut pings = 0;
        while let Some(header) = FrameHeader::read(bytes) {
            let Some(payload) = bytes.get(header.header_bytes..header.frame_bytes()) else { break };
            bytes = &bytes[header.frame_bytes()..];
            match header.opcode {
                // Nobody fragments messages as short as ours; a fragment is no valid message here.
                websocket::TEXT | websocket::BINARY if header.last => on_message(payload),
                websocket::PING => {
                    websocket::put_masked(&mut self.outgoing, websocket::PONG, payload, MASK);
                    self.flush()?;
                    pings += 1;
                }
                websocket::PONG => {}
                websocket::CLOSE => return Err(self.answer_close(payload)),
                _ => return Err(Ending::Protocol),
            }
        }
        if !bytes.is_empty() {
            self.partial.extend_from_slice(bytes);
        }
        Ok(pings)
    }

    /// Puts a message of this opcode behind what is to be sent.
    pub(crate) fn queue(&mut self, opcode: u8, payload: &[u8], mask: [u8; 4]) {
        websocket::put_masked(&mut self.outgoing, opcode, payload, mask);
    }

    /// Sends what the socket takes; true when nothing is left.
    pub(crate) fn flush(&mut self) -> Result<bool, Ending> {
        match send(&self.socket, &self.outgoing, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == self.outgoing.len() => self.outgoing.clear(),
            Ok(sent) => drop(self.outgoing.drain(..sent)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(self.outgoing.is_empty())
    }

    /// Sends what the socket takes, and has `epoll` tell under this token when it takes more.
    pub(crate) fn flush_watched(&mut self, epoll: &Epoll, token: usize) -> Result<(), Ending> {
        let is_all = self.flush()?;
        self.watch_for_room(epoll, token, !is_all)
    }

    /// Has `epoll` tell under this token that there is room to write, or not any more.
    pub(crate) fn watch_for_room(
        &mut self,
        epoll: &Epoll,
        token: usize,
        wanted: bool,
    ) -> Result<(), Ending> {
        if std::mem::replace(&mut self.watched_for_room, wanted) != wanted {
            epoll.watch(&self.socket, token, wanted)?;
        }
        Ok(())
    }

    /// Says goodbye and closes; the server may take its time to notice.
    pub(crate) fn close(mut self) {
        websocket::put_masked(&mut self.outgoing, websocket::CLOSE, &1000_u16.to_be_bytes(), MASK);
        let _ = self.flush();
    }

    fn answer_close(&mut self, payload: &[u8]) -> Ending {
        let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
        websocket::put_masked(&mut self.outgoing, websocket::CLOSE, payload, MASK);
        let _ = self.flush();
        Ending::Code(code)
    }
}

/// For control frames any key will do; it hides nothing from a server we trust.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
