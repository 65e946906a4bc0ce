//! Patterns of channel names: `*` is any text and `?` any one character.

/// A pattern. Matching takes the product of both lengths at most, which are bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<str>);

/// The text is too long for a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern has at most {} bytes", Glob::BYTES_MAX)]
pub struct InvalidGlob;

impl Glob {
    /// The longest pattern, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Parses a pattern; the empty one matches every name.
    ///
    /// # Errors
    /// [`InvalidGlob`] when it is too long.
    pub fn new(pattern: &str) -> Result<Self, InvalidGlob> {
        if pattern.len() <= Self::BYTES_MAX { Ok(Self(pattern.into())) } else { Err(InvalidGlob) }
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is of this pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_empty() || matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// Goes back to the last star only: an earlier one could not match more than it does.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None; // behind the last star in the pattern, and where its text ends so far
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, read));
            }
            Some(&byte) if byte == b'?' || byte == name[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((behind, end)) = star else { return false };
                star = Some((behind, end + 1));
                (at, read) = (behind, end + 1);
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, is_match) in [
            ("", "any", true),
            ("*", "any", true),
            ("any", "any", true),
            ("any", "anyone", false),
            ("news:*", "news:today", true),
            ("news:*", "chat:today", false),
            ("*:to?ay", "news:today", true),
            ("*a*b*c", "xxaxbxbxc", true),
            ("*a*b*c", "xxaxcxbx", false),
            ("??", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(name), is_match, "{pattern} {name}");
        }
        assert_eq!(Glob::new(&"*".repeat(256)), Err(InvalidGlob));
    }
}
