//! A message that is not whole yet: what a connection holds between its first and its last byte,
//! and nothing at other times.

use crate::{
    decode::Limits,
    error::ProtocolError,
    frame::{MessageKind, Opcode},
    header::{Expected, HEADER_BYTES_MAX, Header},
    mask::unmask,
    utf8::Utf8,
};

/// What is reserved for a frame before any of its payload arrived.
const RESERVE_BYTES: usize = 16 * 1024;

/// The bytes of a frame that is not whole, and of the fragmented message it may belong to.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    head: [u8; HEADER_BYTES_MAX],
    head_bytes: usize,
    frame: Option<Begun>,
    control: Vec<u8>,
    message: Option<Message>,
}

/// A frame whose header is whole.
#[derive(Debug)]
struct Begun {
    header: Header,
    received: u64,
}

/// A data message that is not whole.
#[derive(Debug)]
struct Message {
    kind: MessageKind,
    compressed: bool,
    fragments: u32,
    payload: Vec<u8>,
    utf8: Utf8,
}

/// Something that became whole.
#[derive(Debug)]
pub(crate) enum Whole {
    Message { kind: MessageKind, compressed: bool, payload: Vec<u8> },
    Control { opcode: Opcode, payload: Vec<u8> },
}

impl Partial {
    /// Whether nothing is held: the connection is between two messages.
    pub(crate) fn is_empty(&self) -> bool {
        self.head_bytes == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Bytes of memory it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        let payload = self.message.as_ref().map_or(0, |message| message.payload.capacity());
        size_of::<Self>() + payload + self.control.capacity()
    }

    /// Takes bytes from `input` until a message or control frame is whole or the input is used up.
    pub(crate) fn take(
        &mut self,
        limits: &Limits,
        compression: bool,
        input: &mut [u8],
    ) -> Result<(usize, Option<Whole>), ProtocolError> {
        let mut used = 0;
        loop {
            let Some(mut frame) = self.frame.take() else {
                let (taken, header) = self.take_header(compression, &input[used..])?;
                used += taken;
                let Some(header) = header else { return Ok((used, None)) };
                self.begin(limits, header)?;
                self.frame = Some(Begun { header, received: 0 });
                continue;
            };
            used += self.take_payload(&mut frame, &mut input[used..])?;
            if frame.received < frame.header.length {
                self.frame = Some(frame);
                return Ok((used, None));
            }
            if let Some(whole) = self.finish(&frame.header)? {
                return Ok((used, Some(whole)));
            }
        }
    }

    /// Completes the header with the first bytes of `input`; returns how many belong to it.
    fn take_header(
        &mut self,
        compression: bool,
        input: &[u8],
    ) -> Result<(usize, Option<Header>), ProtocolError> {
        let held = self.head_bytes;
        let copied = input.len().min(HEADER_BYTES_MAX - held);
        self.head[held..held + copied].copy_from_slice(&input[..copied]);
        let expected = Expected { message_is_open: self.message.is_some(), compression };
        let header = Header::parse(&self.head[..held + copied], expected)?;
        match &header {
            Some(header) => {
                self.head_bytes = 0;
                Ok((header.header_bytes - held, Some(*header)))
            }
            None => {
                self.head_bytes += copied;
                Ok((copied, None))
            }
        }
    }

    /// Checks a frame against the limits before any of its payload arrives, and makes some room.
    fn begin(&mut self, limits: &Limits, header: Header) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            self.control = Vec::with_capacity(header.length as usize); // at most 125
            return Ok(());
        }
        let message = self.message.get_or_insert_with(|| Message {
            kind: header.opcode.message_kind(),
            compressed: header.compressed,
            fragments: 0,
            payload: Vec::new(),
            utf8: Utf8::default(),
        });
        if message.fragments >= limits.message_fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        message.fragments += 1;
        limits.check_wire_bytes(message.compressed, message.payload.len(), header.length)?;
        if message.payload.is_empty() {
            message.payload.reserve_exact((header.length as usize).min(RESERVE_BYTES));
        }
        Ok(())
    }

    /// Unmasks and keeps the bytes of `input` that belong to the frame; returns how many.
    fn take_payload(
        &mut self,
        frame: &mut Begun,
        input: &mut [u8],
    ) -> Result<usize, ProtocolError> {
        let missing = frame.header.length - frame.received;
        let taken = usize::try_from(missing).map_or(input.len(), |bytes| bytes.min(input.len()));
        let chunk = &mut input[..taken];
        unmask(chunk, frame.header.mask, (frame.received % 4) as usize);
        frame.received += taken as u64;
        match &mut self.message {
            Some(message) if !frame.header.opcode.is_control() => {
                if message.kind == MessageKind::Text && !message.compressed {
                    message.utf8.check(chunk)?;
                }
                message.payload.extend_from_slice(chunk);
            }
            _ => self.control.extend_from_slice(chunk),
        }
        Ok(taken)
    }

    /// Ends a frame; gives what became whole with it.
    fn finish(&mut self, header: &Header) -> Result<Option<Whole>, ProtocolError> {
        if header.opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            return Ok(Some(Whole::Control { opcode: header.opcode, payload }));
        }
        let Some(message) = self.message.take_if(|_| header.fin) else { return Ok(None) };
        if message.kind == MessageKind::Text && !message.compressed {
            message.utf8.finish()?;
        }
        let Message { kind, compressed, payload, .. } = message;
        Ok(Some(Whole::Message { kind, compressed, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { message_bytes: 1 << 20, message_fragments: 1 << 20, inflate_ratio: 1 };

    fn reserved(partial: &Partial) -> usize {
        partial.held_bytes() - size_of::<Partial>()
    }

    #[test]
    fn memory_follows_what_arrives_not_what_is_announced() {
        let mut partial = Partial::default();
        let mut head = *b"\x82\xFF\x00\x00\x00\x00\x00\x10\x00\x00mask";
        partial.take(&LIMITS, false, &mut head).expect("a good header");
        assert!(reserved(&partial) <= RESERVE_BYTES);
        let mut arrived = 0;
        while arrived < 1_000_000 {
            let mut chunk = [0; 1400];
            partial.take(&LIMITS, false, &mut chunk).expect("a part of the payload");
            arrived += chunk.len();
            assert!(reserved(&partial) <= (2 * arrived).max(RESERVE_BYTES));
        }
    }

    #[test]
    fn empty_fragments_reserve_nothing() {
        let mut partial = Partial::default();
        partial.take(&LIMITS, false, &mut b"\x02\x80mask".clone()).expect("a good frame");
        for _ in 0..1000 {
            partial.take(&LIMITS, false, &mut b"\x00\x80mask".clone()).expect("a good frame");
        }
        assert_eq!(reserved(&partial), 0);
    }

    #[test]
    fn what_is_held_is_told() {
        let mut partial = Partial::default();
        partial.take(&LIMITS, false, &mut b"\x02\x84mask1234".clone()).expect("a good frame");
        assert_eq!(partial.held_bytes(), size_of::<Partial>() + 4);
        partial.take(&LIMITS, false, &mut b"\x80\x81maskx".clone()).expect("a good frame");
        assert!(partial.is_empty());
    }

    #[test]
    fn what_a_begun_message_costs_is_small() {
        assert!(size_of::<Partial>() <= 160, "{}", size_of::<Partial>());
    }
}
