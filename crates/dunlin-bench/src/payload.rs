//! The stamp every published message starts with: fixed places, so that reading it costs a few
//! instructions. Each byte is `@` plus four bits: text, and no branch to decode.

/// Who sent which message when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The run it belongs to; anything else on the channel is foreign.
    pub(crate) run: u32,
    /// The publisher's number.
    pub(crate) publisher: u32,
    /// The publisher's count of messages, from 0.
    pub(crate) sequence: u32,
    /// When it was sent or, in an open loop, when it was due (`clock::now`).
    pub(crate) sent_ns: u64,
}

impl Stamp {
    /// Writes the stamp over the first `Stamp::BYTES` of a payload, which must be that long.
    pub(crate) fn write(&self, payload: &mut [u8]) {
        let (words, _) = payload.as_chunks_mut::<8>();
        words[0] = spread(self.run);
        words[1] = spread(self.publisher);
        words[2] = spread(self.sequence);
        words[3] = spread((self.sent_ns >> 32) as u32);
        words[4] = spread(self.sent_ns as u32);
    }

    /// Reads the stamp; `None` when the payload does not start with one.
    #[inline]
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (words, _) = payload.first_chunk::<{ Self::BYTES }>()?.as_chunks::<8>();
        let words: [u64; 5] = std::array::from_fn(|index| u64::from_be_bytes(words[index]));
        if words.iter().any(|word| word & !NIBBLES != MARKS) {
            return None;
        }
        Some(Self {
            run: gather(words[0]),
            publisher: gather(words[1]),
            sequence: gather(words[2]),
            sent_ns: u64::from(gather(words[3])) << 32 | u64::from(gather(words[4])),
        })
    }

    /// Bytes of a stamp, and so of the smallest message.
    pub(crate) const BYTES: usize = 40;
}

/// Eight nibbles of `value`, one in the low half of each byte.
fn spread(value: u32) -> [u8; 8] {
    std::array::from_fn(|index| b'@' | (value >> (28 - 4 * index)) as u8 & 0x0F)
}

/// The inverse of `spread`: pairs of nibbles to bytes, bytes to halves, halves to the word.
#[inline]
fn gather(word: u64) -> u32 {
    let nibbles = word & NIBBLES;
    let bytes = (nibbles | nibbles >> 4) & 0x00FF_00FF_00FF_00FF;
    let halves = (bytes | bytes >> 8) & 0x0000_FFFF_0000_FFFF;
    (halves | halves >> 16) as u32
}

const NIBBLES: u64 = 0x0F0F_0F0F_0F0F_0F0F;
const MARKS: u64 = 0x4040_4040_4040_4040;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(run: u32, publisher: u32, sequence: u32, sent_ns: u64) {
            let stamp = Stamp { run, publisher, sequence, sent_ns };
            let mut payload = [b'.'; 128];
            stamp.write(&mut payload);
            prop_assert!(std::str::from_utf8(&payload).is_ok());
            prop_assert_eq!(Stamp::read(&payload), Some(stamp));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = Stamp::read(&bytes);
        }
    }

    #[test]
    fn a_foreign_payload_is_no_stamp() {
        assert_eq!(Stamp::read(b"hello"), None);
        assert_eq!(Stamp::read(&[b'.'; 128]), None);
        let mut payload = [b'@'; Stamp::BYTES];
        for index in 0..Stamp::BYTES {
            payload[index] = b'.';
            assert_eq!(Stamp::read(&payload), None, "byte {index}");
            payload[index] = b'@';
        }
    }
}
