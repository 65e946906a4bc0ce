//! One centrifuge client that waits for what it asks: a thread of its own drives it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::{
    centrifuge::{Command, Encoding, Push, Refusal, Reply},
    clock::{self, nanoseconds},
    connection::{Connection, Ending},
};

/// A client with its connection.
pub(super) struct Client {
    connection: Connection,
    last_id: u32,
    frame: Vec<u8>,
    buffer: Vec<u8>,
}

/// What a client asks of a channel.
pub(super) enum Ask {
    Subscribe(String),
    /// The same for somebody who was there before, at a position that nobody knows.
    Recover(String),
    Publish(String, String),
}

/// What came of many.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) refused: u64,
    pub(super) first_refusal: Option<Refusal>,
    /// From the command to its answer, in nanoseconds.
    pub(super) times: Vec<u64>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let path = ENCODING.path("/connection/websocket");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101"), "no upgrade at {address}");
        stream.set_read_timeout(Some(TICK))?;
        let mut client = Self {
            connection: Connection::new(stream.into(), Vec::new()),
            last_id: 0,
            frame: Vec::new(),
            buffer: vec![0; 1 << 20],
        };
        client.put(Command::Connect { token: "" });
        client.send()?;
        let replies = client.take(PATIENCE)?;
        let first = replies.first().context("no answer to connect")?;
        ensure!(first.error.is_none(), "connect was refused: {:?}", first.error);
        Ok(client)
    }

    /// Asks for all, so many at a time, and waits for their answers; what else comes is handed on.
    pub(super) fn ask_all(
        &mut self,
        asks: impl IntoIterator<Item = Ask>,
        window: usize,
        mut on_push: impl FnMut(Push),
    ) -> Result<Answers> {
        let (mut asks, mut answers) = (asks.into_iter().peekable(), Answers::default());
        let mut began = std::collections::HashMap::new();
        loop {
            while began.len() < window
                && let Some(ask) = asks.next()
            {
                began.insert(self.put(ask.command()), clock::now());
            }
            if began.is_empty() {
                return Ok(answers);
            }
            self.send()?;
            let replies = self.take(PATIENCE)?;
            ensure!(!replies.is_empty(), "no answer within {PATIENCE:?}");
            for reply in replies {
                if let Some(push) = reply.push {
                    on_push(push);
                } else if let Some(began) = began.remove(&reply.id) {
                    answers.times.push(clock::now() - began);
                    if let Some(refusal) = reply.error {
                        answers.refused += 1;
                        answers.first_refusal.get_or_insert(refusal);
                    }
                }
            }
        }
    }

    /// Subscribes to all of these.
    pub(super) fn subscribe_all(&mut self, channels: impl Iterator<Item = String>) -> Result<()> {
        let answers = self.ask_all(channels.map(Ask::Subscribe), WINDOW, drop)?;
        let refusal = answers.first_refusal;
        ensure!(
            answers.refused == 0,
            "{} subscriptions were refused: {refusal:?}",
            answers.refused
        );
        Ok(())
    }

    /// Waits for pushes for at most `patience`, or a moment longer.
    pub(super) fn pushes(&mut self, patience: Duration) -> Result<Vec<Push>> {
        Ok(self.take(patience)?.into_iter().filter_map(|reply| reply.push).collect())
    }

    /// For one of very many: while nothing comes it notices no sooner that its time is over.
    pub(super) fn be_patient(&self) -> Result<()> {
        let timeout = Some(Duration::from_secs(1));
        Ok(set_socket_timeout(self.connection.socket(), Timeout::Recv, timeout)?)
    }

    fn put(&mut self, command: Command<'_>) -> u32 {
        self.last_id += 1;
        ENCODING.put(&mut self.frame, self.last_id, command);
        if self.frame.len() >= FRAME_BYTES {
            self.end_frame();
        }
        self.last_id
    }

    fn end_frame(&mut self) {
        if !self.frame.is_empty() {
            self.connection.queue(ENCODING.opcode(), &self.frame, MASK);
            self.frame.clear();
        }
    }

    fn send(&mut self) -> Result<()> {
        self.end_frame();
        while !self.connection.flush().map_err(ended)? {}
        Ok(())
    }

    /// Waits for replies; pings are answered and left out.
    fn take(&mut self, patience: Duration) -> Result<Vec<Reply>> {
        let until = clock::now() + nanoseconds(patience);
        loop {
            let filled = self.connection.receive(&mut self.buffer).map_err(ended)?;
            let mut replies = Some(Vec::new());
            let read = self.connection.read(&self.buffer[..filled], |frame| {
                match (ENCODING.read(frame), &mut replies) {
                    (Ok(more), Some(replies)) => replies.extend(more),
                    _ => replies = None,
                }
            });
            read.map_err(ended)?;
            let mut replies = replies.context("a frame that is not of the protocol")?;
            if replies.iter().any(Reply::is_ping) {
                ENCODING.put(&mut self.frame, 0, Command::Pong);
                self.send()?;
                replies.retain(|reply| !reply.is_ping());
            }
            if !replies.is_empty() || clock::now() >= until {
                return Ok(replies);
            }
        }
    }
}

impl Ask {
    fn command(&self) -> Command<'_> {
        match self {
            Self::Subscribe(channel) => Command::Subscribe { channel, recover: None },
            Self::Recover(channel) => {
                Command::Subscribe { channel, recover: Some((1, "elsewhere")) }
            }
            Self::Publish(channel, data) => Command::Publish { channel, data },
        }
    }
}

fn ended(ending: Ending) -> anyhow::Error {
    anyhow!("the server ended the connection: {ending}")
}

const ENCODING: Encoding = Encoding::Protobuf;
/// Few, as there may be hundreds of clients that subscribe at once.
const WINDOW: usize = 16;
/// With one command more it is still one that a node takes.
const FRAME_BYTES: usize = 16 * 1024;
/// For what has no answer otherwise. Nodes wait less for Redis.
const PATIENCE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(20);
const MASK: [u8; 4] = [0x5A, 0x17, 0xC3, 0x0E];
