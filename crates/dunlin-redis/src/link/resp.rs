//! The RESP3 decoder: bytes from a server in, frames out. Sans-IO, incremental and bounded; it
//! never looks at a byte twice, never reserves what a server merely announces, never panics. What
//! is too large is read to its end and thrown away.
//! (Redis serialization protocol specification, RESP3.)

use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use super::value::{Frame, Value};

/// Why a server's bytes make no sense; the connection they came from must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// A value starts with a byte that names no type.
    #[error("unknown type byte 0x{0:02x}")]
    UnknownType(u8),
    /// A line or a body does not end in CR LF.
    #[error("line without its end")]
    BadEnd,
    /// A number, length or boolean is malformed.
    #[error("malformed number")]
    BadNumber,
    /// A line is longer than 64 KiB.
    #[error("line too long")]
    LineTooLong,
    /// Values are nested more than 8 deep.
    #[error("values nested too deep")]
    TooDeep,
    /// A push inside another value.
    #[error("push inside another value")]
    NestedPush,
}

/// Takes frames out of a read buffer and remembers where it was when the bytes end.
#[derive(Debug)]
pub struct Decoder {
    bytes_max: usize,
    /// The aggregates not yet complete, outermost first.
    open: Vec<Aggregate>,
    /// A body whose header is taken.
    body: Option<Body>,
    /// How much of the buffer's first line is known to hold no line feed.
    searched: usize,
    /// What the frame in hand has used of its bounds.
    values: usize,
    bytes: usize,
    /// Whether it exceeds them: then nothing of it is kept.
    is_too_large: bool,
}

#[derive(Debug)]
struct Aggregate {
    shape: Shape,
    missing: usize,
    values: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Array,
    Set,
    Map,
    Push,
    Attribute,
}

#[derive(Debug, Clone, Copy)]
struct Body {
    kind: u8,
    length: usize,
    /// Set for a body to throw away: how much of it and its line end is still to come.
    skipping: Option<usize>,
}

/// What a line says. Most are numbers, of which nothing is kept.
enum Line {
    /// A value that is the line's own text.
    Text(fn(Bytes) -> Value),
    Value(Value),
    Body(u8, usize),
    Aggregate(Shape, usize),
}

impl Line {
    fn read(line: &[u8]) -> Result<Self, RespError> {
        let (kind, text) = line.split_first().ok_or(RespError::BadEnd)?;
        let aggregate = |shape| Ok(Self::Aggregate(shape, parse_length(text)?));
        Ok(match (kind, text) {
            (b'$' | b'*', b"-1") | (b'_', b"") => Self::Value(Value::Null),
            (b'$' | b'=' | b'!', _) => Self::Body(*kind, parse_length(text)?),
            (b'*', _) => return aggregate(Shape::Array),
            (b'>', _) => return aggregate(Shape::Push),
            (b'%', _) => return aggregate(Shape::Map),
            (b'~', _) => return aggregate(Shape::Set),
            (b'|', _) => return aggregate(Shape::Attribute),
            (b'+', _) => Self::Text(Value::Simple),
            (b'-', _) => Self::Text(Value::Error),
            (b',', _) => Self::Text(Value::Double),
            (b'(', _) => Self::Text(Value::BigNumber),
            (b':', _) => Self::Value(Value::Integer(parse_integer(text)?)),
            (b'#', b"t") => Self::Value(Value::Boolean(true)),
            (b'#', b"f") => Self::Value(Value::Boolean(false)),
            (b'_' | b'#', _) => return Err(RespError::BadNumber),
            (other, _) => return Err(RespError::UnknownType(*other)),
        })
    }
}

/// What one look at the buffer brought.
enum Step {
    Value(Value),
    Opened,
    Starved,
}

impl Decoder {
    /// A decoder whose frames keep at most `bytes_max` bytes; longer bodies are skipped, and frames
    /// with more text than that or more than 1,048,576 values.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            open: Vec::new(),
            body: None,
            searched: 0,
            values: 0,
            bytes: 0,
            is_too_large: false,
        }
    }

    /// Takes the next whole frame off the front of `buffer`, or what there is of it, and returns
    /// `None` when more bytes are needed. After an error neither may be used again.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, RespError> {
        if self.is_between_frames()
            && let Some(message) = take_message(buffer, self.bytes_max)
        {
            return Ok(Some(message));
        }
        loop {
            match self.step(buffer)? {
                Step::Starved => return Ok(None),
                Step::Opened => {}
                Step::Value(value) => {
                    if let Some(frame) = self.place(value) {
                        let length = mem::take(&mut self.bytes);
                        self.values = 0;
                        return Ok(Some(match (frame, mem::take(&mut self.is_too_large)) {
                            (Frame::Reply(_), true) => Frame::Reply(Value::Skipped { length }),
                            (frame, _) => frame,
                        }));
                    }
                }
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.open.is_empty() && self.body.is_none() && self.searched == 0 && self.values == 0
    }

    fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, RespError> {
        if let Some(body) = self.body {
            return self.take_body(buffer, body);
        }
        let Some(end) = self.find_line(buffer)? else { return Ok(Step::Starved) };
        self.values += 1;
        self.is_too_large |= self.values > VALUES_MAX;
        Ok(Step::Value(match Line::read(&buffer[..end])? {
            Line::Text(wrap) => wrap(take_text(buffer, end)),
            Line::Value(value) => {
                buffer.advance(end + 2);
                value
            }
            Line::Body(kind, length) => {
                buffer.advance(end + 2);
                return self.open_body(buffer, kind, length);
            }
            Line::Aggregate(shape, count) => {
                buffer.advance(end + 2);
                return self.open_aggregate(shape, count);
            }
        }))
    }

    /// Where the first line ends, before its line end.
    fn find_line(&mut self, buffer: &[u8]) -> Result<Option<usize>, RespError> {
        let Some(found) = memchr::memchr(b'\n', &buffer[self.searched..]) else {
            self.searched = buffer.len();
            return if self.searched > LINE_BYTES_MAX {
                Err(RespError::LineTooLong)
            } else {
                Ok(None)
            };
        };
        let feed = self.searched + found;
        if feed > LINE_BYTES_MAX {
            return Err(RespError::LineTooLong);
        }
        if feed == 0 || buffer[feed - 1] != b'\r' {
            return Err(RespError::BadEnd);
        }
        self.searched = 0;
        self.bytes += feed + 1;
        self.is_too_large |= self.bytes > self.bytes_max;
        Ok(Some(feed - 1))
    }

    fn open_body(
        &mut self,
        buffer: &mut BytesMut,
        kind: u8,
        length: usize,
    ) -> Result<Step, RespError> {
        let has_room = length + 2 <= self.bytes_max.saturating_sub(self.bytes);
        let skipping = if self.is_too_large || !has_room {
            Some(length + 2)
        } else {
            self.bytes += length + 2;
            None
        };
        let body = Body { kind, length, skipping };
        self.take_body(buffer, body)
    }

    fn take_body(&mut self, buffer: &mut BytesMut, mut body: Body) -> Result<Step, RespError> {
        if let Some(left) = body.skipping {
            // Its end is not checked: what follows a wrong length is no type byte for long.
            let dropped = left.min(buffer.len());
            buffer.advance(dropped);
            body.skipping = Some(left - dropped);
            self.body = (left > dropped).then_some(body);
            return Ok(if left > dropped {
                Step::Starved
            } else {
                Step::Value(Value::Skipped { length: body.length })
            });
        }
        if buffer.len() < body.length + 2 {
            self.body = Some(body);
            return Ok(Step::Starved);
        }
        self.body = None;
        if &buffer[body.length..body.length + 2] != b"\r\n" {
            return Err(RespError::BadEnd);
        }
        let mut bytes = buffer.split_to(body.length + 2).freeze();
        bytes.truncate(body.length);
        Ok(Step::Value(match body.kind {
            b'!' => Value::Error(bytes),
            b'=' => Value::Verbatim(bytes),
            _ => Value::Bulk(bytes),
        }))
    }

    fn open_aggregate(&mut self, shape: Shape, count: usize) -> Result<Step, RespError> {
        if shape == Shape::Push && !self.open.is_empty() {
            return Err(RespError::NestedPush);
        }
        let missing =
            if matches!(shape, Shape::Map | Shape::Attribute) { count * 2 } else { count };
        self.is_too_large |= missing > VALUES_MAX;
        if missing == 0 && shape == Shape::Push {
            return Err(RespError::BadNumber);
        }
        if self.open.len() == DEPTH_MAX {
            return Err(RespError::TooDeep);
        }
        // Room only for what a small frame needs: the count is the server's word, not yet bytes.
        let values = Vec::with_capacity(missing.min(4));
        let aggregate = Aggregate { shape, missing, values };
        if missing > 0 {
            self.open.push(aggregate);
            return Ok(Step::Opened);
        }
        Ok(match shape {
            Shape::Attribute | Shape::Push => Step::Opened,
            Shape::Array => Step::Value(Value::Array(Vec::new())),
            Shape::Set => Step::Value(Value::Set(Vec::new())),
            Shape::Map => Step::Value(Value::Map(Vec::new())),
        })
    }

    /// Puts a value into the innermost open aggregate; returns the frame if that completed it.
    fn place(&mut self, mut value: Value) -> Option<Frame> {
        while let Some(innermost) = self.open.last_mut() {
            if self.is_too_large {
                innermost.values.clear();
            } else {
                innermost.values.push(value);
            }
            innermost.missing -= 1;
            if innermost.missing > 0 {
                return None;
            }
            let whole = self.open.pop()?;
            value = match whole.shape {
                Shape::Array => Value::Array(whole.values),
                Shape::Set => Value::Set(whole.values),
                Shape::Map => Value::Map(pair_up(whole.values)),
                Shape::Push => return Some(to_push(whole.values)),
                // Attributes describe the value that follows them, and we read none.
                Shape::Attribute => return None,
            };
        }
        Some(Frame::Reply(value))
    }
}

/// The way nearly every byte goes: a publication that lies in the buffer as a whole is found and
/// sliced in one step. Anything else, malformed bytes too, is left for the long way.
fn take_message(buffer: &mut BytesMut, bytes_max: usize) -> Option<Frame> {
    let head = MESSAGE_HEADS.into_iter().find(|head| buffer.starts_with(head))?;
    let (channel_at, channel_end) = find_bulk(buffer, head.len())?;
    let (payload_at, payload_end) = find_bulk(buffer, channel_end + 2)?;
    let total = payload_end + 2;
    if total > bytes_max {
        return None;
    }
    let whole = buffer.split_to(total).freeze();
    Some(Frame::Message {
        channel: whole.slice(channel_at..channel_end),
        payload: whole.slice(payload_at..payload_end),
    })
}

/// Where the body of the bulk string at `at` starts and ends, if it and its line end are there.
fn find_bulk(buffer: &[u8], at: usize) -> Option<(usize, usize)> {
    let header = buffer.get(at..)?;
    if *header.first()? != b'$' {
        return None;
    }
    let mut length = 0;
    let mut digits = 0;
    while digits < LENGTH_DIGITS_MAX && header.get(digits + 1)?.is_ascii_digit() {
        length = length * 10 + usize::from(header[digits + 1] - b'0');
        digits += 1;
    }
    let body_at = at + 1 + digits + 2;
    let body_end = body_at + length;
    let ends = digits > 0
        && buffer.get(body_at - 2..body_at)? == b"\r\n"
        && buffer.get(body_end..body_end + 2)? == b"\r\n";
    ends.then_some((body_at, body_end))
}

/// Takes a line that ends at `end` and returns it without its first byte. The answer to each
/// command of a transaction is the same and needs no part of the buffer.
fn take_text(buffer: &mut BytesMut, end: usize) -> Bytes {
    if buffer[1..end] == *QUEUED {
        buffer.advance(end + 2);
        return Bytes::from_static(QUEUED);
    }
    buffer.split_to(end + 2).freeze().slice(1..end)
}

fn to_push(values: Vec<Value>) -> Frame {
    match &values[..] {
        [Value::Bulk(kind), Value::Bulk(channel), Value::Bulk(payload)]
            if matches!(&kind[..], b"message" | b"smessage") =>
        {
            Frame::Message { channel: channel.clone(), payload: payload.clone() }
        }
        _ => Frame::Push(values),
    }
}

fn pair_up(values: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(values.len() / 2);
    let mut values = values.into_iter();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn parse_length(text: &[u8]) -> Result<usize, RespError> {
    let is_number =
        !text.is_empty() && text.len() <= LENGTH_DIGITS_MAX && text.iter().all(u8::is_ascii_digit);
    let length = || text.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    is_number.then(length).ok_or(RespError::BadNumber)
}

fn parse_integer(text: &[u8]) -> Result<i64, RespError> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(RespError::BadNumber)
}

const MESSAGE_HEADS: [&[u8]; 2] = [b">3\r\n$7\r\nmessage\r\n", b">3\r\n$8\r\nsmessage\r\n"];
const QUEUED: &[u8] = b"QUEUED";
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Redis refuses bulk strings of more than 512 MB by default.
const LENGTH_DIGITS_MAX: usize = 9;
const VALUES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 8;

#[cfg(test)]
mod tests;
