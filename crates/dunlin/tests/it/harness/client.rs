//! A WebSocket client that does what it is told, right or wrong.

use std::{
    io::{BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::http::{Response, connect, connect_with_little_room, read_response, upgrade_request};

/// One connection. Dropping it drops the socket without a word.
pub(crate) struct Client<S: Read + Write = TcpStream> {
    /// Buffers reads only; writes go past it.
    stream: BufReader<S>,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The stream ended, in order or not.
    End,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// FIN, the bit of a frame that ends its message.
const FIN: u8 = 0x80;

/// A whole masked frame.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    raw_frame(FIN | opcode as u8, payload)
}

fn raw_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

impl Client {
    /// Joins `channel`.
    pub(crate) fn join(address: SocketAddr, channel: &str) -> Self {
        Self::open(address, &format!("/ws/{channel}"))
    }

    /// Joins `channel`; what it does not read waits at the server, but for a few KiB.
    pub(crate) fn join_with_little_room(address: SocketAddr, channel: &str) -> Self {
        let request = upgrade_request(&format!("/ws/{channel}"));
        let (client, _) = Self::upgrade(connect_with_little_room(address), &request).unwrap();
        client
    }

    /// Upgrades at `path`.
    pub(crate) fn open(address: SocketAddr, path: &str) -> Self {
        Self::try_open(address, path).unwrap_or_else(|refusal| panic!("{path}: {refusal:?}"))
    }

    /// Upgrades at `path`, or returns the answer that was no 101.
    pub(crate) fn try_open(address: SocketAddr, path: &str) -> Result<Self, Option<Response>> {
        let stream = connect(address).map_err(|_| None)?;
        Self::upgrade(stream, &upgrade_request(path)).map(|(client, _)| client)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Whether nothing has come, or comes within `time`.
    pub(crate) fn is_silent_for(&self, time: Duration) -> bool {
        if !self.stream.buffer().is_empty() {
            return false;
        }
        let socket = self.socket();
        let patience = socket.read_timeout().unwrap();
        socket.set_read_timeout(Some(time)).unwrap();
        let peeked = socket.peek(&mut [0]);
        socket.set_read_timeout(patience).unwrap();
        matches!(peeked, Err(error) if is_timeout(error.kind()))
    }
}

impl<S: Read + Write> Client<S> {
    /// Over a stream behind its 101.
    pub(crate) fn on(stream: BufReader<S>) -> Self {
        Self { stream }
    }

    /// Sends `request`, which may hold more than the request, and expects a 101.
    pub(crate) fn upgrade(stream: S, request: &str) -> Result<(Self, Response), Option<Response>> {
        Self::upgrade_bytes(stream, request.as_bytes())
    }

    pub(crate) fn upgrade_bytes(
        mut stream: S,
        request: &[u8],
    ) -> Result<(Self, Response), Option<Response>> {
        stream.write_all(request).map_err(|_| None)?;
        let mut stream = BufReader::new(stream);
        match read_response(&mut stream) {
            Some(response) if response.status == 101 => Ok((Self { stream }, response)),
            other => Err(other),
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).unwrap();
    }

    /// As [`Client::send_bytes`], of a server that may have closed already.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send_bytes(&frame(Opcode::Text, text.as_bytes()));
    }

    pub(crate) fn send_binary(&mut self, data: &[u8]) {
        self.send_bytes(&frame(Opcode::Binary, data));
    }

    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        self.send_bytes(&frame(opcode, payload));
    }

    /// Sends a frame that does not end its message.
    pub(crate) fn send_fragment(&mut self, opcode: Opcode, payload: &[u8]) {
        self.send_bytes(&raw_frame(opcode as u8, payload));
    }

    /// Says goodbye and waits for the server's.
    pub(crate) fn close(mut self) {
        self.send(Opcode::Close, &1000_u16.to_be_bytes());
        while !matches!(self.receive(), Message::Close(1000, _) | Message::End) {}
    }

    /// The next thing but pings, which are answered.
    pub(crate) fn receive(&mut self) -> Message {
        loop {
            match self.receive_any() {
                // The server may be gone by now; the next read tells.
                Message::Ping(payload) => {
                    let _ = self.try_send_bytes(&frame(Opcode::Pong, &payload));
                }
                other => return other,
            }
        }
    }

    pub(crate) fn receive_text(&mut self) -> String {
        match self.receive() {
            Message::Text(text) => text,
            other => panic!("expected a text, not {other:?}"),
        }
    }

    /// Skips messages up to the close frame.
    pub(crate) fn receive_close(&mut self) -> (u16, String) {
        loop {
            match self.receive() {
                Message::Close(code, reason) => return (code, reason),
                Message::End => panic!("the stream ended without a close frame"),
                _ => {}
            }
        }
    }

    /// The next thing, whatever it is. Panics on what no server may send.
    pub(crate) fn receive_any(&mut self) -> Message {
        self.try_receive().unwrap_or_else(|error| match is_timeout(error.kind()) {
            true => panic!("nothing came in time"),
            false => Message::End,
        })
    }

    /// The next frame, its bits and its payload as they came.
    pub(crate) fn receive_frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let [first, length] = head;
        assert!(length < 128, "a server masks nothing");
        let length = match length {
            126 => u64::from(u16::from_be_bytes(self.read_array()?)),
            127 => u64::from_be_bytes(self.read_array()?),
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload)?;
        Ok((first, payload))
    }

    fn try_receive(&mut self) -> std::io::Result<Message> {
        let (first, payload) = self.receive_frame()?;
        assert_eq!(first & 0xf0, FIN, "a whole message without extensions");
        Ok(match first & 0x0f {
            1 => Message::Text(String::from_utf8(payload).unwrap()),
            2 => Message::Binary(payload),
            8 => {
                let (code, reason) = payload.split_at(2);
                let code = u16::from_be_bytes(code.try_into().unwrap());
                Message::Close(code, str::from_utf8(reason).unwrap().to_owned())
            }
            9 => Message::Ping(payload),
            10 => Message::Pong(payload),
            opcode => panic!("opcode {opcode}"),
        })
    }

    fn read_array<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut array = [0; N];
        self.stream.read_exact(&mut array)?;
        Ok(array)
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
