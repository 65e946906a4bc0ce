//! The target for configuration files.

use dunlin::config::parse;

/// Any text is a configuration or a list of problems, each of which says what is wrong; and what
/// was taken is never changed by saying it again.
///
/// Input: the text of a file.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match parse(text) {
        Ok(config) => {
            let again = parse(text).expect("the same text is taken again");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
        }
        Err(problems) => assert!(!problems.to_string().is_empty(), "refused without a word"),
    }
}

#[cfg(test)]
mod tests {
    use dunlin::config::DEFAULT;

    use super::*;

    /// The defaults themselves are a configuration: the seed that holds every key.
    #[test]
    fn the_defaults_are_taken() {
        config(DEFAULT.as_bytes());
        assert!(parse(DEFAULT).is_ok());
    }
}
