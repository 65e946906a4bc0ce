//! Positions: where in a channel's stream a publication is.

use std::{fmt, str::FromStr};

/// Which past of a channel an offset belongs to.
///
/// Clients see it as one opaque text: 16 hexadecimal digits, and behind a dot the branch when it is
/// not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Drawn when the channel's past began; another one means that everything before is forgotten.
    pub id: u64,
    /// Which server wrote: the count of changes in the high half, its name in the low one. What
    /// follows a change may take the place of publications that the old server lost.
    pub branch: u64,
}

/// A place in a channel's stream: of a publication, or of a subscriber that has it and all before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Counts publications from 1; 0 = before the first.
    pub offset: u64,
    /// The past that it counts in.
    pub epoch: Epoch,
}

/// The text is no epoch that a node of ours ever gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch is 16 hexadecimal digits, a dot and a branch")]
pub struct InvalidEpoch;

impl Epoch {
    /// How often the writing server has changed within this epoch.
    #[must_use]
    pub fn generation(self) -> u64 {
        self.branch >> 32
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.id)?;
        if self.branch == 0 { Ok(()) } else { write!(f, ".{:x}", self.branch) }
    }
}

impl FromStr for Epoch {
    type Err = InvalidEpoch;

    fn from_str(text: &str) -> Result<Self, InvalidEpoch> {
        let (id, branch) = text.split_once('.').unwrap_or((text, "0"));
        let number = |digits: &str| {
            let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let number = is_hex.then(|| u64::from_str_radix(digits, 16).ok());
            number.flatten().ok_or(InvalidEpoch)
        };
        let epoch = Self { id: number(id)?, branch: number(branch)? };
        // One text for one epoch: what is not as we write it is not ours.
        if epoch.to_string() == text { Ok(epoch) } else { Err(InvalidEpoch) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_epoch_survives_as_text(id: u64, branch in prop_oneof![Just(0), any::<u64>()]) {
            let epoch = Epoch { id, branch };
            prop_assert_eq!(epoch.to_string().parse(), Ok(epoch));
        }

        #[test]
        fn foreign_texts_are_no_epochs(text in "[0-9a-fA-F.+]{0,20}") {
            if let Ok(epoch) = text.parse::<Epoch>() {
                prop_assert_eq!(epoch.to_string(), text);
            }
        }
    }
}
