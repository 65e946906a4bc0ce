//! UTF-8 that arrives in pieces, each byte examined once and a bad byte seen at once.

use simdutf8::compat;

use crate::error::ProtocolError;

/// Checks a text chunk by chunk; carries the up to three bytes of a character that is not whole.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    carried: [u8; 4],
    carried_bytes: usize,
}

impl Utf8 {
    /// Checks the next chunk; fails as soon as no continuation could make the text valid.
    pub(crate) fn check(&mut self, mut chunk: &[u8]) -> Result<(), ProtocolError> {
        while self.carried_bytes > 0 {
            let Some((&byte, rest)) = chunk.split_first() else { return Ok(()) };
            chunk = rest;
            self.carried[self.carried_bytes] = byte;
            self.carried_bytes += 1;
            match std::str::from_utf8(&self.carried[..self.carried_bytes]) {
                Ok(_) => self.carried_bytes = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(ProtocolError::NotUtf8),
            }
        }
        match compat::from_utf8(chunk) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                let begun = &chunk[error.valid_up_to()..];
                self.carried[..begun.len()].copy_from_slice(begun);
                self.carried_bytes = begun.len();
                Ok(())
            }
            Err(_) => Err(ProtocolError::NotUtf8),
        }
    }

    /// Checks that the text ends with a whole character.
    pub(crate) fn finish(&self) -> Result<(), ProtocolError> {
        if self.carried_bytes == 0 { Ok(()) } else { Err(ProtocolError::NotUtf8) }
    }
}

/// Checks a whole text.
pub(crate) fn check_whole(text: &[u8]) -> Result<(), ProtocolError> {
    simdutf8::basic::from_utf8(text).map(|_| ()).map_err(|_| ProtocolError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    /// How many bytes of `text` are needed to see that it is not UTF-8, by feeding single bytes.
    fn bytes_until_failure(text: &[u8]) -> Option<usize> {
        let mut utf8 = Utf8::default();
        text.iter().position(|byte| utf8.check(&[*byte]).is_err()).map(|at| at + 1)
    }

    #[test]
    fn fails_at_the_first_byte_that_cannot_be_right() {
        let check = |text: &[u8], expected| assert_eq!(bytes_until_failure(text), expected);
        check("κόσμε \u{10ffff}".as_bytes(), None);
        check(b"ab\xc0\x80", Some(3)); // never starts a character
        check(b"\xed\xa0\x80", Some(2)); // a surrogate
        check(b"\xf4\x90\x80\x80", Some(2)); // beyond U+10FFFF
        check(b"\xe0\x80\x80", Some(2)); // longer than needed
        check(b"\xce\xbaa\xff", Some(4));
        check(b"\xce\xce", Some(2));
    }

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            "[a-z]{0,40}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..3),
        ];
        proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn agrees_with_std_over_any_split(text in texts(), cuts: [Index; 4]) {
            let mut cuts = cuts.map(|cut| cut.index(text.len() + 1));
            cuts.sort_unstable();
            let mut utf8 = Utf8::default();
            let mut begin = 0;
            let mut result = Ok(());
            for end in cuts.into_iter().chain([text.len()]) {
                result = result.and_then(|()| utf8.check(&text[begin..end]));
                begin = end;
            }
            let valid = result.and_then(|()| utf8.finish()).is_ok();
            prop_assert_eq!(valid, std::str::from_utf8(&text).is_ok());
            prop_assert_eq!(check_whole(&text).is_ok(), valid);
        }
    }
}
