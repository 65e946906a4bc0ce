//! The floor: the least a WebSocket fan-out can do. One thread, one `recv` per readable client, one
//! `send` per client per turn, nothing else. It trusts its clients: our own load generator.

mod centrifuge;

use std::{
    collections::HashMap,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use anyhow::{Context, Result};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt},
};

use crate::{
    epoll::{Epoll, Ready},
    websocket::{self, FrameHeader},
};

/// Arguments of `dunlin-bench floor`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Send only to clients on the same URL path instead of to everybody
    #[arg(long)]
    channels: bool,
    /// Speak centrifuge (JSON, one channel) instead of repeating what clients send
    #[arg(long, conflicts_with = "channels")]
    centrifuge: bool,
}

/// Serves until it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the open file limit")?;
    let listener = TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    // std listens with a backlog of 128; a connect storm wants more, and listen may be repeated.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on ws://{}/ws", listener.local_addr()?)?;
    out.flush()?;

    let mut floor = Floor::new(listener, args)?;
    loop {
        floor.turn()?;
    }
}

struct Floor {
    epoll: Epoll,
    listener: TcpListener,
    by_path: bool,
    centrifuge: bool,
    /// That of the last publication.
    offset: u64,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    paths: HashMap<String, usize>,
    channels: Vec<Channel>,
    /// Channels with something to send in this turn.
    due: Vec<usize>,
    buffer: Box<[u8]>,
}

struct Client {
    socket: OwnedFd,
    /// The channel's index and the client's place in it, once the handshake is done.
    seat: Option<(usize, usize)>,
    /// The start of a handshake or frame whose rest has not come.
    partial: Vec<u8>,
    /// What the socket would not take.
    pending: Vec<u8>,
}

#[derive(Default)]
struct Channel {
    clients: Vec<usize>,
    /// The frames of this turn.
    frames: Vec<u8>,
}

impl Floor {
    fn new(listener: TcpListener, args: &Args) -> Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add_readable(&listener, LISTENER)?;
        Ok(Self {
            epoll,
            listener,
            by_path: args.channels,
            centrifuge: args.centrifuge,
            offset: 0,
            clients: Vec::new(),
            free: Vec::new(),
            paths: HashMap::new(),
            channels: Vec::new(),
            due: Vec::new(),
            buffer: vec![0; 256 * 1024].into(),
        })
    }

    fn turn(&mut self) -> Result<()> {
        self.epoll.wait(None)?;
        for index in 0..self.epoll.ready_count() {
            match self.epoll.ready(index) {
                Some(Ready { token: LISTENER, .. }) => self.accept()?,
                Some(ready) => {
                    if ready.writable {
                        self.send(ready.token, &[]);
                    }
                    if ready.readable {
                        self.receive(ready.token);
                    }
                }
                None => {}
            }
        }
        while let Some(channel) = self.due.pop() {
            self.fan_out(channel);
        }
        Ok(())
    }

    fn fan_out(&mut self, channel: usize) {
        let frames = std::mem::take(&mut self.channels[channel].frames);
        // Backwards: a client that is gone gives its place to the last one, which has been served.
        for place in (0..self.channels[channel].clients.len()).rev() {
            self.send(self.channels[channel].clients[place], &frames);
        }
        self.channels[channel].frames = frames;
        self.channels[channel].frames.clear();
    }

    /// Sends what is pending, then `bytes`; keeps what the socket will not take.
    #[inline]
    fn send(&mut self, number: usize, bytes: &[u8]) {
        let Some(client) = &mut self.clients[number] else { return };
        if client.pending.is_empty() {
            match send(&client.socket, bytes, SEND) {
                Ok(sent) if sent == bytes.len() => return,
                Ok(sent) => client.pending.extend_from_slice(&bytes[sent..]),
                Err(Errno::AGAIN) => client.pending.extend_from_slice(bytes),
                Err(_) => return self.drop_client(number),
            }
            if self.epoll.watch(&client.socket, number, true).is_err() {
                self.drop_client(number);
            }
            return;
        }
        client.pending.extend_from_slice(bytes);
        match send(&client.socket, &client.pending, SEND) {
            Ok(sent) => drop(client.pending.drain(..sent)),
            Err(Errno::AGAIN) => {}
            Err(_) => return self.drop_client(number),
        }
        if client.pending.is_empty() {
            let _ = self.epoll.watch(&client.socket, number, false);
        } else if client.pending.len() > PENDING_BYTES_MAX {
            self.drop_client(number);
        }
    }

    fn receive(&mut self, number: usize) {
        let Some(client) = &mut self.clients[number] else { return };
        let kept = client.partial.len();
        self.buffer[..kept].copy_from_slice(&client.partial);
        client.partial.clear();
        match recv(&client.socket, &mut self.buffer[kept..], RecvFlags::empty()) {
            Err(Errno::AGAIN) => client.partial.extend_from_slice(&self.buffer[..kept]),
            Ok((0, _)) | Err(_) => self.drop_client(number),
            Ok((received, _)) => self.read(number, kept + received),
        }
    }

    /// Reads the first `filled` bytes of the buffer: a request, or frames to pass on.
    fn read(&mut self, number: usize, filled: usize) {
        let Some(client) = &mut self.clients[number] else { return };
        let Some((channel, _)) = client.seat else {
            if !self.handshake(number, filled) {
                self.drop_client(number);
            }
            return;
        };
        let (mut at, mut answers) = (0, Vec::new());
        while let Some(header) = FrameHeader::read(&self.buffer[at..filled]) {
            let end = at + header.frame_bytes();
            let payload = at + header.header_bytes..end;
            if end > filled {
                break;
            }
            let payload = &mut self.buffer[payload];
            websocket::apply_mask(payload, header.mask.unwrap_or_default());
            match header.opcode {
                websocket::CLOSE => return self.drop_client(number),
                websocket::TEXT | websocket::BINARY => {
                    let frames = &mut self.channels[channel].frames;
                    let was_empty = frames.is_empty();
                    if self.centrifuge {
                        centrifuge::obey(payload, &mut self.offset, frames, &mut answers);
                    } else {
                        websocket::put_header(frames, header.opcode, payload.len());
                        frames.extend_from_slice(payload);
                    }
                    if was_empty && !frames.is_empty() {
                        self.due.push(channel);
                    }
                }
                _ => {}
            }
            at = end;
        }
        client.partial.extend_from_slice(&self.buffer[at..filled]);
        // A frame larger than the buffer would never be complete.
        if client.partial.len() == self.buffer.len() {
            self.drop_client(number);
        } else if !answers.is_empty() {
            self.send(number, &answers);
        }
    }

    /// Answers the request in the buffer and gives the client its seat; false if it is none.
    fn handshake(&mut self, number: usize, filled: usize) -> bool {
        let Some(client) = &mut self.clients[number] else { return false };
        let request = &self.buffer[..filled];
        if !request.ends_with(b"\r\n\r\n") {
            client.partial.extend_from_slice(request);
            return filled < 8192;
        }
        let Ok(request) = std::str::from_utf8(request) else { return false };
        let Some(path) = request.split(' ').nth(1) else { return false };
        let header = |line: &'_ str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        };
        let Some(key) = request.lines().find_map(header) else { return false };

        let path = if self.by_path { path } else { "" };
        let channel = self.paths.get(path).copied().unwrap_or_else(|| {
            self.paths.insert(path.to_owned(), self.channels.len());
            self.channels.push(Channel::default());
            self.channels.len() - 1
        });
        client.seat = Some((channel, self.channels[channel].clients.len()));
        self.channels[channel].clients.push(number);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            websocket::accept_key(&key)
        );
        self.send(number, answer.as_bytes());
        true
    }

    fn accept(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN | Errno::CONNABORTED) => return Ok(()),
                Err(error) => return Err(error).context("cannot accept"),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let number = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            self.epoll.add_readable(&socket, number)?;
            let (partial, pending) = (Vec::new(), Vec::new());
            self.clients[number] = Some(Client { socket, seat: None, partial, pending });
        }
        Ok(())
    }

    fn drop_client(&mut self, number: usize) {
        let Some(client) = self.clients[number].take() else { return };
        self.free.push(number);
        let Some((channel, place)) = client.seat else { return };
        let clients = &mut self.channels[channel].clients;
        clients.swap_remove(place);
        if let Some(&moved) = clients.get(place)
            && let Some(moved) = &mut self.clients[moved]
        {
            moved.seat = Some((channel, place));
        }
    }
}

const LISTENER: usize = usize::MAX >> 1;
const ACCEPTS_PER_TURN: usize = 64;
const PENDING_BYTES_MAX: usize = 64 << 20;
const SEND: SendFlags = SendFlags::NOSIGNAL;
