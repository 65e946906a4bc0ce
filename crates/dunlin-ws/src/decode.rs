//! Decoding: bytes of a client in, whole messages and control frames out.
//!
//! A frame that is whole in the input is unmasked and handed out where it lies. Whatever is not
//! whole moves to the connection's [`Partial`], which exists only meanwhile.

use crate::{
    close::{self, CloseCode},
    deflate::{Compression, Inflater},
    error::ProtocolError,
    frame::{MessageKind, Opcode},
    header::{Expected, Header},
    mask::unmask,
    partial::{Partial, Whole},
    utf8,
};

/// The bounds of what one connection may make its server hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message in bytes, over all its fragments and after decompression.
    pub message_bytes: usize,
    /// The most frames per message; empty ones count.
    pub message_fragments: u32,
    /// How many times longer than its compressed form a message may be (past the first 16 KiB).
    pub inflate_ratio: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 64 * 1024, message_fragments: 1024, inflate_ratio: 100 }
    }
}

impl Limits {
    /// Checks that `more` bytes may follow the `held` ones of a message as it comes in. A
    /// compressed one may be slightly longer than its content, if that does not compress.
    pub(crate) fn check_wire_bytes(
        &self,
        compressed: bool,
        held: usize,
        more: u64,
    ) -> Result<(), ProtocolError> {
        let overhead = if compressed { self.message_bytes / 64 + 64 } else { 0 };
        let room = (self.message_bytes.saturating_add(overhead)).saturating_sub(held);
        if more > room as u64 { Err(ProtocolError::MessageTooBig) } else { Ok(()) }
    }
}

/// What the decoders of one thread share: the limits, a decompressor, and the content of the last
/// message that had to be put together, until the next one replaces it.
#[derive(Debug)]
pub struct Context {
    limits: Limits,
    inflater: Option<Box<Inflater>>,
    finished: Vec<u8>,
}

impl Context {
    /// A context with these limits; its decompressor is made when it is first needed.
    pub fn new(limits: Limits) -> Self {
        Self { limits, inflater: None, finished: Vec::new() }
    }
}

/// Decodes the frames of one client. Holds a box only while a message is not whole.
#[derive(Debug)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    compression: Compression,
}

/// A whole message or control frame of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message, unmasked and decompressed; a text is valid UTF-8.
    Message {
        /// Whether it is text or binary.
        kind: MessageKind,
        /// The content.
        payload: &'a [u8],
    },
    /// A ping: answer with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong(&'a [u8]),
    /// The client closes: answer with a close frame, decode no more.
    Close {
        /// The client's code, if it gave one.
        code: Option<CloseCode>,
        /// The client's reason, may be empty.
        reason: &'a str,
    },
}

impl Decoder {
    /// A decoder for a connection that was just upgraded.
    pub fn new(compression: Compression) -> Self {
        Self { partial: None, compression }
    }

    /// Whether a message has begun and not ended. The caller holds the deadline for its end.
    pub fn is_mid_message(&self) -> bool {
        self.partial.is_some()
    }

    /// Drops what it holds of a message: nothing more is decoded.
    pub fn clear(&mut self) {
        self.partial = None;
    }

    /// Bytes of memory that the message takes which has begun and not ended.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.held_bytes())
    }

    /// Decodes the next event from `input`, in place. Returns how many bytes are used up and the
    /// event; without an event all of them are, and more are needed.
    ///
    /// # Errors
    /// The client broke the protocol or a limit, see [`ProtocolError`]. The connection must be
    /// closed and the decoder dropped.
    pub fn decode<'a>(
        &mut self,
        context: &'a mut Context,
        input: &'a mut [u8],
    ) -> Result<(usize, Option<Event<'a>>), ProtocolError> {
        if self.partial.is_none() {
            if input.is_empty() {
                return Ok((0, None));
            }
            if let Some(header) = self.whole_frame(&context.limits, input)? {
                let used = header.header_bytes + header.length as usize;
                let payload = &mut input[header.header_bytes..used];
                unmask(payload, header.mask, 0);
                return Ok((used, Some(context.event_in_place(&header, payload)?)));
            }
        }
        let compression = self.compression.may_receive();
        let partial = self.partial.get_or_insert_default();
        let (used, whole) = partial.take(&context.limits, compression, input)?;
        if partial.is_empty() {
            self.partial = None;
        }
        let event = whole.map(|whole| context.event_of(whole)).transpose()?;
        Ok((used, event))
    }

    /// The header of the frame at the start of `input` if all of the frame is there and it is a
    /// whole message or control frame.
    fn whole_frame(&self, limits: &Limits, input: &[u8]) -> Result<Option<Header>, ProtocolError> {
        let compression = self.compression.may_receive();
        let expected = Expected { message_is_open: false, compression };
        let Some(header) = Header::parse(input, expected)? else { return Ok(None) };
        if header.fin && !header.opcode.is_control() {
            if limits.message_fragments == 0 {
                return Err(ProtocolError::TooManyFragments);
            }
            limits.check_wire_bytes(header.compressed, 0, header.length)?;
        }
        let arrived = (input.len() - header.header_bytes) as u64;
        Ok((header.fin && header.length <= arrived).then_some(header))
    }
}

impl Context {
    fn event_in_place<'a>(
        &'a mut self,
        header: &Header,
        payload: &'a [u8],
    ) -> Result<Event<'a>, ProtocolError> {
        if header.opcode.is_control() {
            return control_event(header.opcode, payload);
        }
        let kind = header.opcode.message_kind();
        if header.compressed {
            return self.inflate(kind, payload);
        }
        if kind == MessageKind::Text {
            utf8::check_whole(payload)?;
        }
        Ok(Event::Message { kind, payload })
    }

    fn event_of(&mut self, whole: Whole) -> Result<Event<'_>, ProtocolError> {
        match whole {
            Whole::Control { opcode, payload } => {
                self.finished = payload;
                control_event(opcode, &self.finished)
            }
            Whole::Message { kind, compressed: true, payload } => self.inflate(kind, &payload),
            Whole::Message { kind, compressed: false, payload } => {
                self.finished = payload;
                Ok(Event::Message { kind, payload: &self.finished })
            }
        }
    }

    fn inflate(&mut self, kind: MessageKind, deflated: &[u8]) -> Result<Event<'_>, ProtocolError> {
        let Limits { message_bytes, inflate_ratio, .. } = self.limits;
        let inflater = self.inflater.get_or_insert_with(|| Box::new(Inflater::new()));
        let payload = inflater.inflate(deflated, message_bytes, inflate_ratio)?;
        if kind == MessageKind::Text {
            utf8::check_whole(payload)?;
        }
        Ok(Event::Message { kind, payload })
    }
}

fn control_event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    match opcode {
        Opcode::Ping => Ok(Event::Ping(payload)),
        Opcode::Pong => Ok(Event::Pong(payload)),
        _ => close::parse(payload),
    }
}
