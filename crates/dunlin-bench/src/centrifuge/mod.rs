//! As much of the centrifuge protocol as a load generator needs, in both encodings. Apart from
//! dunlin-protocol on purpose: a yardstick must not share the measured code's mistakes.

mod json;
mod protobuf;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use crate::websocket;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// Objects joined by newlines, in text frames.
    Json,
    /// Messages behind their lengths, in binary frames.
    Protobuf,
}

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'a> {
    Connect {
        token: &'a str,
    },
    Subscribe {
        channel: &'a str,
        /// Where the client was before, if it was there.
        recover: Option<(u64, &'a str)>,
    },
    /// `data` becomes a JSON string, so that clients of both encodings can read it; it needs no
    /// escapes.
    Publish {
        channel: &'a str,
        data: &'a str,
    },
    /// The answer to a ping: the empty command.
    Pong,
}

/// What a server says: the answer to the command `id`, or a push, or (all empty) a ping.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Reply {
    pub(crate) id: u32,
    pub(crate) error: Option<Refusal>,
    pub(crate) push: Option<Push>,
    pub(crate) subscribe: Option<Subscribed>,
}

/// Why a command was refused.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// What no command asked for.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Push {
    pub(crate) channel: String,
    #[serde(rename = "pub")]
    pub(crate) publication: Option<Publication>,
    pub(crate) unsubscribe: Option<Unsubscribed>,
}

/// A message of a channel.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Publication {
    /// The text, if it is a JSON string; else nothing of ours.
    #[serde(deserialize_with = "json::text")]
    pub(crate) data: String,
    pub(crate) offset: u64,
}

/// The end of a subscription.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Unsubscribed {
    pub(crate) code: u32,
}

/// A granted subscription.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Subscribed {
    pub(crate) recoverable: bool,
    pub(crate) epoch: String,
    pub(crate) publications: Vec<Publication>,
    pub(crate) recovered: bool,
    pub(crate) offset: u64,
    pub(crate) was_recovering: bool,
}

/// A frame that is not of this protocol.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed;

impl Encoding {
    /// The opcode of its frames.
    pub(crate) fn opcode(self) -> u8 {
        match self {
            Self::Json => websocket::TEXT,
            Self::Protobuf => websocket::BINARY,
        }
    }

    /// Puts a command behind those already in a frame.
    pub(crate) fn put(self, frame: &mut Vec<u8>, id: u32, command: Command<'_>) {
        match self {
            Self::Json => json::put(frame, id, command),
            Self::Protobuf => protobuf::put(frame, id, command),
        }
    }

    /// Reads all replies of a frame.
    pub(crate) fn read(self, frame: &[u8]) -> Result<Vec<Reply>, Malformed> {
        match self {
            Self::Json => json::read(frame),
            Self::Protobuf => protobuf::read(frame),
        }
    }

    /// The path under which a server speaks it.
    pub(crate) fn path(self, path: &str) -> String {
        match self {
            Self::Json => path.to_owned(),
            Self::Protobuf => format!("{path}?cf_protocol=protobuf"),
        }
    }
}

impl Reply {
    /// Whether it is the server's ping.
    pub(crate) fn is_ping(&self) -> bool {
        *self == Self::default()
    }
}
