//! Secrets in the configuration: read, handed over, never printed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Secrets of which each is good, written as one text or a list of texts. "" = none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The secrets in clear, for whoever compares or signs with them.
    pub fn expose(&self) -> &[String] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands in the place of the secrets.
    fn shown(&self) -> &'static str {
        if self.is_empty() { "" } else { "[redacted]" }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.shown())
    }
}

impl Serialize for Secrets {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        one_or_many(toml::Value::deserialize(from)?, without_line_break).map(Self)
    }
}

/// Whoever writes a secret into a file or a variable often leaves one line break at its end, which
/// nobody signs with.
fn without_line_break(secret: String) -> String {
    let line = secret.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    line.map(str::to_owned).unwrap_or(secret)
}

/// One text or a list of texts that are no secret. "" = none.
pub(super) mod texts {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        one_or_many(toml::Value::deserialize(from)?, |text| text)
    }

    pub(crate) fn serialize<S: Serializer>(value: &[String], to: S) -> Result<S::Ok, S::Error> {
        match value {
            [] => to.serialize_str(""),
            [one] => to.serialize_str(one),
            many => to.collect_seq(many),
        }
    }
}

/// The texts, each as `read` takes it; an error does not repeat what was written.
fn one_or_many<E: de::Error>(
    value: toml::Value,
    read: fn(String) -> String,
) -> Result<Vec<String>, E> {
    use toml::Value::{Array, String as Text};

    let texts = match value {
        Text(text) => Some(Vec::from_iter(Some(read(text)).filter(|text| !text.is_empty()))),
        Array(items) => items
            .into_iter()
            .map(|item| match item {
                Text(text) => Some(read(text)).filter(|text| !text.is_empty()),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    texts.ok_or_else(|| E::custom("expected a text, or a list of texts that are not empty"))
}
