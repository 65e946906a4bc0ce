//! Targets for the WebSocket codec.

use std::io::{self, Read, Write};

use dunlin_ws::{
    Compression, Context, Decoder, Event, Limits, MessageKind, ProtocolError, Request, accept,
};
use tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError as TheirProtocolError,
    handshake::server::create_response,
    http,
    protocol::{Role, WebSocketConfig},
};

/// Bytes of a client decode to the same events in one piece and in pieces, and no event exceeds
/// what the limits and its kind promise.
///
/// Input: a byte of options, a seed for the cuts, the bytes of the client.
pub fn ws_decode(data: &[u8]) {
    let [options, cuts, bytes @ ..] = data else { return };
    let compression = if options & 1 == 0 { Compression::Off } else { Compression::On };
    let limits = match options >> 1 & 3 {
        0 => Limits::default(),
        1 => Limits { message_bytes: 100, message_fragments: 3, inflate_ratio: 2 },
        2 => Limits { message_bytes: 0, message_fragments: 0, inflate_ratio: 0 },
        _ => Limits { message_bytes: 1 << 20, message_fragments: 9, inflate_ratio: 3 },
    };
    let whole = decode([bytes], limits, compression);
    let split = decode(Pieces { rest: bytes, state: *cuts }, limits, compression);
    assert_eq!(whole, split, "in one piece and in pieces");
    for seen in &whole {
        check_promises(seen, limits);
    }
}

/// Bytes of a client decode to what tungstenite reads from them.
///
/// Exceptions, where this codec is stricter or earlier:
/// - tungstenite takes lengths that are not minimal, of control frames too;
/// - it replaces a close code that must not travel by 1002 instead of failing (if the reason is
///   UTF-8: it looks there first), and 1014 is unknown to it;
/// - it judges a frame when all of it is there, so it may see the end of the input first;
/// - it knows no limit on fragments and no compression: both are off here.
pub fn ws_differential(data: &[u8]) {
    const LIMITS: Limits =
        Limits { message_bytes: 4096, message_fragments: u32::MAX, inflate_ratio: 0 };
    let replaced = || Seen::Close(Some(1002), "Protocol violation".to_owned());
    let mut ours = decode([data], LIMITS, Compression::Off);
    if let Some(last @ Seen::Close(Some(1014), _)) = ours.last_mut() {
        *last = replaced();
    }
    let (theirs, end) = read_by_tungstenite(data, LIMITS.message_bytes);
    let (messages, error) = match ours.split_last() {
        Some((Seen::Error(error), messages)) => (messages, Some(*error)),
        _ => (&ours[..], None),
    };
    match error {
        None => {
            assert_eq!(messages, theirs, "tungstenite ends with {end:?}");
            assert_ne!(end, End::Error, "an error of tungstenite's alone after {messages:?}");
        }
        Some(ProtocolError::LengthNotMinimal | ProtocolError::ControlTooLong) => {
            assert!(theirs.starts_with(messages), "{messages:?} but tungstenite has {theirs:?}");
        }
        Some(ProtocolError::CloseCodeInvalid) => {
            let is_replaced = theirs.split_last() == Some((&replaced(), messages));
            let is_refused = theirs == messages && end == End::Error;
            assert!(is_replaced || is_refused, "{messages:?} but tungstenite has {theirs:?}");
        }
        Some(error) => {
            assert_eq!(messages, theirs, "{error:?}, tungstenite ends with {end:?}");
            assert_ne!(end, End::Closed, "{error:?}, but tungstenite is content");
        }
    }
}

/// A handshake this codec accepts is one that tungstenite accepts with the same key, and what it
/// answers about extensions was asked for.
///
/// Input: lines; the first is the method, the others are headers.
/// Exception: tungstenite reads `Connection` and `Upgrade` less well (one header, ASCII, not always
/// a list), so it is given their plainest form.
pub fn ws_handshake(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(method) = std::str::from_utf8(lines.next().unwrap_or_default()) else { return };
    let headers: Vec<(&str, &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
        })
        .collect();
    let judge = |offered| {
        let request = Request { method, http_11: true, headers: headers.iter().copied() };
        accept(request, offered)
    };
    let (on, off) = (judge(Compression::On), judge(Compression::Off));
    assert_eq!(on.as_ref().map(|a| &a.key), off.as_ref().map(|a| &a.key));
    let Ok(accepted) = on else { return };
    assert_eq!(off.map(|a| (a.extensions, a.compression)), Ok((None, Compression::Off)));
    assert_eq!(accepted.extensions.is_some(), accepted.compression != Compression::Off);
    if accepted.extensions.is_some() {
        let asked = data.windows(18).any(|window| window == b"permessage-deflate");
        assert!(asked, "an extension nobody offered");
    }

    let mut request = http::Request::builder().method(method);
    for (name, value) in &headers {
        request = match name.to_ascii_lowercase().as_str() {
            "connection" => request.header("connection", "Upgrade"),
            "upgrade" => request.header("upgrade", "websocket"),
            _ => request.header(*name, value.trim_ascii()),
        };
    }
    let Ok(request) = request.body(()) else { return };
    let response = create_response(&request).expect("tungstenite is content as well");
    let key = response.headers().get("sec-websocket-accept").map(http::HeaderValue::as_bytes);
    assert_eq!(key, Some(accepted.key.as_bytes()));
}

/// An event, or the error at the end, that owns its bytes.
#[derive(Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(ProtocolError),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind: MessageKind::Text, payload } => Self::Text(payload.to_vec()),
            Event::Message { kind: MessageKind::Binary, payload } => Self::Binary(payload.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close { code, reason } => {
                Self::Close(code.map(dunlin_ws::CloseCode::get), reason.to_owned())
            }
        }
    }
}

/// Decodes pieces up to a close frame or an error.
fn decode<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: Limits,
    compression: Compression,
) -> Vec<Seen> {
    let mut context = Context::new(limits);
    let mut decoder = Decoder::new(compression);
    let mut seen = Vec::new();
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut at = 0;
        while at < input.len() {
            let (used, event) = match decoder.decode(&mut context, &mut input[at..]) {
                Ok(decoded) => decoded,
                Err(error) => {
                    seen.push(Seen::Error(error));
                    return seen;
                }
            };
            at += used;
            match event {
                Some(event) => seen.push(event.into()),
                None => assert_eq!(at, input.len(), "input is left without an event"),
            }
            if let Some(Seen::Close(..)) = seen.last() {
                return seen;
            }
        }
    }
    seen
}

fn check_promises(seen: &Seen, limits: Limits) {
    match seen {
        Seen::Text(payload) => {
            assert!(payload.len() <= limits.message_bytes);
            assert!(std::str::from_utf8(payload).is_ok());
        }
        Seen::Binary(payload) => assert!(payload.len() <= limits.message_bytes),
        Seen::Ping(payload) | Seen::Pong(payload) => assert!(payload.len() <= 125),
        Seen::Close(..) | Seen::Error(_) => {}
    }
}

/// Pieces of irregular lengths, from a seed.
struct Pieces<'a> {
    rest: &'a [u8],
    state: u8,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.state = self.state.wrapping_mul(141).wrapping_add(91);
        let length = match self.state >> 6 {
            0 => 1,
            1 => usize::from(self.state & 3),
            _ => usize::from(self.state & 63),
        };
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        Some(piece)
    }
}

/// How reading by tungstenite ended.
#[derive(Debug, PartialEq)]
enum End {
    Closed,
    InputUsedUp,
    Error,
}

fn read_by_tungstenite(data: &[u8], message_bytes: usize) -> (Vec<Seen>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes));
    let mut socket = WebSocket::from_raw_socket(Input(data), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(payload)) => Seen::Binary(payload.to_vec()),
            Ok(Message::Ping(payload)) => Seen::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Seen::Pong(payload.to_vec()),
            Ok(Message::Close(close)) => match close {
                Some(close) => Seen::Close(Some(close.code.into()), close.reason.to_string()),
                None => Seen::Close(None, String::new()),
            },
            Ok(Message::Frame(_)) => unreachable!("tungstenite gives no raw frames on reading"),
            Err(Error::ConnectionClosed) => return (seen, End::Closed),
            Err(Error::Protocol(TheirProtocolError::ResetWithoutClosingHandshake)) => {
                return (seen, End::InputUsedUp);
            }
            Err(_) => return (seen, End::Error),
        });
    }
}

/// A socket that gives its bytes and swallows what is written.
struct Input<'a>(&'a [u8]);

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Input<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
