//! Channel names: parsed once, then shared.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The name of a channel: 1 to 200 bytes of `A-Z a-z 0-9 _ - = @ , . ; :`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

/// The text is not a channel name. The message states the whole rule, so it can be shown to a
/// client as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a channel name is 1 to 200 bytes of A-Z a-z 0-9 _ - = @ , . ; :")]
pub struct InvalidChannelName;

impl ChannelName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 200;

    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidChannelName`] when the name is empty, too long or holds any other character.
    pub fn new(name: &str) -> Result<Self, InvalidChannelName> {
        let fits = (1..=Self::BYTES_MAX).contains(&name.len());
        if fits && name.bytes().all(is_name_byte) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidChannelName)
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-=@,.;:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, valid: bool) {
        assert_eq!(ChannelName::new(name).is_ok(), valid, "{name:?}");
    }

    #[test]
    fn names_follow_the_rule() {
        check("chat_channel", true);
        check("Az09_-=@,.;:", true);
        check(&"x".repeat(200), true);
        check(&"x".repeat(201), false);
        check("", false);
        for bad in ["a b", "a/b", "a\r\nb", "a\0", "é", "*", "a%20b", "{tag}"] {
            check(bad, false);
        }
    }
}
