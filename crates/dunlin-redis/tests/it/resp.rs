//! A connection that hides nothing: what the server says, in the order it says it.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use dunlin_redis::link::{
    command,
    resp::Decoder,
    value::{Frame, Value},
};

pub(crate) struct RawLink {
    stream: TcpStream,
    decoder: Decoder,
    buffer: BytesMut,
    /// Those that came while a reply was waited for.
    pushes: VecDeque<Vec<String>>,
}

impl RawLink {
    /// Connects and asks for RESP3.
    pub(crate) fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let decoder = Decoder::new(1 << 20);
        let mut link =
            Self { stream, decoder, buffer: BytesMut::new(), pushes: VecDeque::default() };
        assert!(matches!(link.ask(&["HELLO", "3"]), Value::Map(_)));
        link
    }

    pub(crate) fn send(&mut self, words: &[&str]) {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        let mut out = BytesMut::new();
        command::write(&mut out, &words);
        self.stream.write_all(&out).unwrap();
    }

    /// Sends a command and takes its reply, which may be an error.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Value {
        self.send(words);
        self.reply()
    }

    /// The next reply; pushes that come before it wait.
    pub(crate) fn reply(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.frame(deadline).expect("a reply comes in time") {
                Frame::Reply(value) => return value,
                push => self.pushes.extend(words(push)),
            }
        }
    }

    /// Subscribes to one channel, by either verb, and waits until it stands.
    ///
    /// # Errors
    /// The server's own words.
    pub(crate) fn subscribe(&mut self, verb: &str, channel: &str) -> Result<(), String> {
        self.send(&[verb, channel]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.frame(deadline).expect("an answer comes in time") {
                Frame::Reply(Value::Error(text)) => return Err(text_of(&text)),
                Frame::Reply(value) => panic!("{value:?} is no answer to {verb}"),
                push => {
                    let words = words(push).expect("a push");
                    let is_it = words[0] == verb.to_lowercase() && words[1] == channel;
                    if is_it {
                        return Ok(());
                    }
                    self.pushes.push_back(words);
                }
            }
        }
    }

    /// The next push as words, such as `message` (from shard channels, too), channel and payload;
    /// none if none comes so soon.
    pub(crate) fn push_within(&mut self, patience: Duration) -> Option<Vec<String>> {
        if let Some(words) = self.pushes.pop_front() {
            return Some(words);
        }
        let frame = self.frame(Instant::now() + patience)?;
        Some(words(frame).expect("nothing was asked, so it is a push"))
    }

    /// Takes pushes until one is of that kind.
    ///
    /// # Panics
    /// If none comes in time.
    #[track_caller]
    pub(crate) fn push_of_kind(&mut self, kind: &str) -> Vec<String> {
        loop {
            let push = self.push_within(PATIENCE);
            let push = push.unwrap_or_else(|| panic!("no push of kind {kind}"));
            if push[0] == kind {
                return push;
            }
        }
    }

    fn frame(&mut self, deadline: Instant) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => panic!("the server closed the connection"),
                Ok(length) => self.buffer.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                    if left.is_zero() {
                        return None;
                    }
                }
            }
        }
    }
}

/// A push as words.
fn words(frame: Frame) -> Option<Vec<String>> {
    match frame {
        Frame::Message { channel, payload } => {
            Some(vec!["message".to_owned(), text_of(&channel), text_of(&payload)])
        }
        Frame::Push(values) => Some(values.iter().map(word).collect()),
        Frame::Reply(_) => None,
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        value => value.as_bytes().map_or_else(|| format!("{value:?}"), |bytes| text_of(bytes)),
    }
}

/// The text of an error, or of anything that is text.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Error(text) => text_of(text),
        value => word(value),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const PATIENCE: Duration = Duration::from_secs(10);
