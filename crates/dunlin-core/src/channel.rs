//! Channel names: parsed once, then shared.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The name of a channel: 1 to 255 bytes of printable ASCII, space included. Cheap to clone.
///
/// Names that start with `$ctl.` are the nodes' own, for what they tell one another: no client and
/// no caller of the HTTP API can name such a channel.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

/// The text is not a channel name. The message states the whole rule, so it can be shown to a
/// client as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a channel name is 1 to 255 bytes of printable ascii and does not start with $ctl.")]
pub struct InvalidChannelName;

/// The text is not a channel name of the plain dialect. The message states the whole rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a channel name is 1 to 200 bytes of A-Z a-z 0-9 _ - = @ , . ; :")]
pub struct InvalidPlainName;

impl ChannelName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// The longest name in the plain dialect, in bytes.
    pub const PLAIN_BYTES_MAX: usize = 200;

    /// How the nodes' own channels begin.
    pub const CONTROL_PREFIX: &str = "$ctl.";

    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidChannelName`] when the name is empty, too long, the nodes' own, or holds any other
    /// character.
    pub fn new(name: &str) -> Result<Self, InvalidChannelName> {
        let is_printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let fits = (1..=Self::BYTES_MAX).contains(&name.len());
        if fits && is_printable && !name.starts_with(Self::CONTROL_PREFIX) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidChannelName)
        }
    }

    /// Parses a name by the stricter rule of the plain dialect, where names stand in paths and
    /// shells: `A-Z a-z 0-9 _ - = @ , . ; :` only.
    ///
    /// # Errors
    /// [`InvalidPlainName`] when the name is empty, too long or holds any other character.
    pub fn plain(name: &str) -> Result<Self, InvalidPlainName> {
        let fits = (1..=Self::PLAIN_BYTES_MAX).contains(&name.len());
        if fits && name.bytes().all(is_plain_byte) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidPlainName)
        }
    }

    /// A channel of the nodes' own: `$ctl.` and `name`.
    ///
    /// # Panics
    /// When the whole is no printable ASCII of at most 255 bytes; the callers' names are constants
    /// and ids of nodes.
    #[must_use]
    pub fn control(name: &str) -> Self {
        let whole = format!("{}{name}", Self::CONTROL_PREFIX);
        let is_printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        assert!(is_printable && whole.len() <= Self::BYTES_MAX, "{name:?} names no channel");
        Self(whole.into())
    }

    /// Whether it is one of the nodes' own.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.0.starts_with(Self::CONTROL_PREFIX)
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

fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-=@,.;:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, valid: bool, plain: bool) {
        assert_eq!(ChannelName::new(name).is_ok(), valid, "{name:?}");
        assert_eq!(ChannelName::plain(name).is_ok(), plain, "{name:?}");
    }

    #[test]
    fn names_follow_the_rules() {
        check("chat_channel", true, true);
        check("Az09_-=@,.;:", true, true);
        check(&"x".repeat(200), true, true);
        check(&"x".repeat(255), true, false);
        check(&"x".repeat(256), false, false);
        check("", false, false);
        for fancy in ["a b", " ", "~", "a/b", "*", "a%20b", "{tag}", "$private", "#42", "$ctl"] {
            check(fancy, true, false);
        }
        for bad in ["a\r\nb", "a\0", "a\x7f", "é", "$ctl.", "$ctl.nodes"] {
            check(bad, false, false);
        }
    }

    #[test]
    fn the_nodes_own_channels_are_out_of_reach() {
        let control = ChannelName::control("node.1");
        assert_eq!(control.as_str(), "$ctl.node.1");
        assert!(control.is_control());
        assert!(ChannelName::new(control.as_str()).is_err());
        assert!(!ChannelName::new("$ctl").unwrap().is_control());
    }
}
