//! Compressed messages (RFC 7692), without context takeover: each message stands alone, so one
//! compressor and one decompressor per thread serve all connections.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::ProtocolError;

/// What a connection negotiated about compressed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Neither side compresses.
    #[default]
    Off,
    /// Both sides may compress.
    On,
    /// The client may compress but gets plain frames: its window is smaller than a [`Deflater`]'s.
    ReceiveOnly,
}

impl Compression {
    /// Whether frames of [`compressed_message_frame`](crate::compressed_message_frame) may be sent.
    pub fn may_send(self) -> bool {
        self == Self::On
    }

    /// Whether the client may send compressed messages.
    pub fn may_receive(self) -> bool {
        self != Self::Off
    }
}

/// The window of every [`Deflater`], as a power of two: 4 KiB. Python's websockets asks for this
/// window by default, and one compressed frame must suit all. It also keeps compressors small.
pub(crate) const WINDOW_BITS: u8 = 12;
/// Small messages may exceed `Limits::inflate_ratio` up to this many bytes.
const INFLATE_FREE_BYTES: usize = 16 * 1024;
/// A buffer that a big message left behind is cut back to this.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;
const STEP_BYTES: usize = 16 * 1024;
/// An empty stored block: senders cut it off, receivers put it back (RFC 7692, 7.2.1 and 7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// The tail and an empty final block: the stream ends here only if the message was whole.
const TAIL_AND_END: [u8; 6] = [0, 0, 0xFF, 0xFF, 3, 0];

/// Compresses messages, each on its own.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
    output: Vec<u8>,
}

impl Deflater {
    /// A compressor; it holds about 200 KiB, so one per thread is enough.
    pub fn new() -> Self {
        let level = flate2::Compression::default();
        Self {
            stream: Compress::new_with_window_bits(level, false, WINDOW_BITS),
            output: Vec::new(),
        }
    }

    /// Compresses one message into the payload of a compressed frame.
    ///
    /// What does not compress comes out longer than `payload`, and even the shortest costs some
    /// 10 µs: send such messages plain.
    pub fn deflate(&mut self, payload: &[u8]) -> &[u8] {
        self.stream.reset();
        self.output.clear();
        self.output.shrink_to(BUFFER_BYTES_KEPT);
        self.output.reserve(payload.len() / 2 + 64);
        let mut rest = payload;
        loop {
            let before = self.stream.total_in();
            self.stream
                .compress_vec(rest, &mut self.output, FlushCompress::Sync)
                .expect("compressing fails only when it is asked to go on after its end");
            rest = &rest[(self.stream.total_in() - before) as usize..];
            // A flush is complete when it leaves room: a full buffer may hide more output.
            if rest.is_empty() && self.output.len() < self.output.capacity() {
                break;
            }
            self.output.reserve(STEP_BYTES);
        }
        self.output.strip_suffix(&TAIL).expect("a sync flush ends with an empty stored block")
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

/// Decompresses messages, each on its own.
#[derive(Debug)]
pub(crate) struct Inflater {
    stream: Decompress,
    output: Vec<u8>,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self { stream: Decompress::new(false), output: Vec::new() }
    }

    /// Decompresses the payload of a compressed message to at most `bytes_max` bytes, at most
    /// `ratio` times its length.
    pub(crate) fn inflate(
        &mut self,
        deflated: &[u8],
        bytes_max: usize,
        ratio: u32,
    ) -> Result<&[u8], ProtocolError> {
        let by_ratio = deflated.len().saturating_mul(ratio as usize).max(INFLATE_FREE_BYTES);
        let (bound, error) = if by_ratio < bytes_max {
            (by_ratio, ProtocolError::InflateRatio)
        } else {
            (bytes_max, ProtocolError::MessageTooBig)
        };
        if self.output.len() > BUFFER_BYTES_KEPT {
            self.output.truncate(BUFFER_BYTES_KEPT);
            self.output.shrink_to_fit();
        }
        self.stream.reset(false);
        let mut written = 0;
        self.run(deflated, &mut written, bound, error)?;
        match self.run(&TAIL_AND_END, &mut written, bound, error)? {
            Status::StreamEnd => Ok(&self.output[..written]),
            Status::Ok | Status::BufError => Err(ProtocolError::BrokenDeflate),
        }
    }

    /// Decompresses all of `input` behind the first `written` bytes of the output.
    fn run(
        &mut self,
        mut input: &[u8],
        written: &mut usize,
        bound: usize,
        error: ProtocolError,
    ) -> Result<Status, ProtocolError> {
        loop {
            if *written == self.output.len() {
                self.grow(bound);
            }
            // One byte more than the bound: to fill it is to exceed the bound.
            let end = self.output.len().min(*written + STEP_BYTES).min(bound.saturating_add(1));
            let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(input, &mut self.output[*written..end], FlushDecompress::Sync)
                .map_err(|_| ProtocolError::BrokenDeflate)?;
            let consumed = (self.stream.total_in() - in_before) as usize;
            input = &input[consumed..];
            *written += (self.stream.total_out() - out_before) as usize;
            if *written > bound {
                return Err(error);
            }
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(status),
                // A block marked final does not end the message (RFC 7692, 7.2.3.4).
                Status::StreamEnd => self.stream.reset(false),
                Status::Ok | Status::BufError => {
                    if *written < end && input.is_empty() {
                        return Ok(status);
                    }
                    // No progress in spite of room: should not be, and must not loop.
                    if *written < end && consumed == 0 {
                        return Err(ProtocolError::BrokenDeflate);
                    }
                }
            }
        }
    }

    /// Doubles the output, to at most one byte more than `bound`.
    fn grow(&mut self, bound: usize) {
        let doubled = (self.output.len() * 2).max(STEP_BYTES).min(bound.saturating_add(1));
        let additional = doubled.saturating_sub(self.output.len());
        self.output.reserve_exact(additional);
        self.output.resize(self.output.len() + additional, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that do not compress.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(bytes).collect()
    }

    #[test]
    fn nothing_refers_back_further_than_12_bits() {
        let deflated_bytes = |distance| Deflater::new().deflate(&noise(distance).repeat(2)).len();
        assert!(deflated_bytes(3_000) < 4_000, "a window of 12 bits finds the repetition");
        for distance in [4_097, 5_000, 8_000, 30_000] {
            assert!(deflated_bytes(distance) >= 2 * distance, "{distance}");
        }
    }

    #[test]
    fn a_client_may_use_the_largest_window() {
        let content = noise(32_000).repeat(2);
        let mut stream = Compress::new_with_window_bits(flate2::Compression::best(), false, 15);
        let mut deflated = Vec::with_capacity(100_000);
        stream.compress_vec(&content, &mut deflated, FlushCompress::Sync).expect("there is room");
        assert!(deflated.len() < 40_000, "the second half refers to the first");
        let deflated = deflated.strip_suffix(&TAIL).expect("a sync flush");
        let mut inflater = Inflater::new();
        assert!(inflater.inflate(deflated, 64_000, 100) == Ok(&content));
    }

    #[test]
    fn messages_do_not_know_each_other() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        let first = deflater.deflate(b"the same words").to_vec();
        assert_eq!(deflater.deflate(b"the same words"), first);
        for content in [noise(100_000), Vec::new(), vec![7; 50_000], noise(10)] {
            let deflated = deflater.deflate(&content);
            assert!(inflater.inflate(deflated, 100_000, 2_000) == Ok(&content));
        }
    }

    #[test]
    fn the_output_does_not_outgrow_its_bound() {
        let bomb = Deflater::new().deflate(&vec![0; 10 << 20]).to_vec();
        let check = |bytes_max, ratio, bound, expected| {
            let mut inflater = Inflater::new();
            assert_eq!(inflater.inflate(&bomb, bytes_max, ratio), Err(expected));
            assert!(inflater.output.capacity() <= bound + 1, "{}", inflater.output.capacity());
        };
        check(0, 2_000, 0, ProtocolError::MessageTooBig);
        check(100_000, 2_000, 100_000, ProtocolError::MessageTooBig);
        check(1 << 20, 10, bomb.len() * 10, ProtocolError::InflateRatio);
        check(1 << 20, 0, INFLATE_FREE_BYTES, ProtocolError::InflateRatio);
    }

    #[test]
    fn a_big_message_does_not_keep_its_buffer() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        let big = deflater.deflate(&noise(1 << 20)).to_vec();
        inflater.inflate(&big, 1 << 20, 1).expect("a whole message");
        inflater.inflate(deflater.deflate(b"x"), 1 << 20, 1).expect("a whole message");
        assert!(inflater.output.capacity() <= BUFFER_BYTES_KEPT);
        assert!(deflater.output.capacity() <= BUFFER_BYTES_KEPT);
    }
}
