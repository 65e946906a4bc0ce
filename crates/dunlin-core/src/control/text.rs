//! Messages between nodes as JSON. Fields that a reader does not know are skipped, so that a
//! newer version can add some.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use super::{Body, Glob, MESSAGE_BYTES_MAX, Message, MessageId, Unreadable};
use crate::{
    auth::claims::{Overrides, SubscriptionOptions},
    channel::ChannelName,
    command::Resume,
};

/// The envelope: read before its content, which may be of a kind that nobody here knows.
#[derive(Deserialize)]
struct Envelope<'a> {
    id: &'a str,
    time: u64,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// The same, to be written.
#[derive(Serialize)]
struct Written<'a> {
    id: String,
    time: u64,
    body: &'a Body,
}

pub(super) fn write(message: &Message) -> String {
    let Message { id, sent_at_ms, body } = message;
    let written = Written { id: id.to_string(), time: *sent_at_ms, body };
    serde_json::to_string(&written).expect("all map keys are texts and all raw values are JSON")
}

pub(super) fn read(text: &[u8]) -> Result<Message, Unreadable> {
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(Unreadable::Malformed);
    }
    let envelope: Envelope<'_> = serde_json::from_slice(text).map_err(|_| Unreadable::Malformed)?;
    let body = serde_json::from_str(envelope.body.get()).map_err(|_| Unreadable::UnknownKind)?;
    Ok(Message { id: envelope.id.parse()?, sent_at_ms: envelope.time, body })
}

/// A channel of anybody's, never one of the nodes' own.
pub(super) mod channel {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(name: &ChannelName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ChannelName, D::Error> {
        let name = String::deserialize(from)?;
        ChannelName::new(&name).map_err(de::Error::custom)
    }
}

pub(super) mod optional_channel {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        name: &Option<ChannelName>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        name.as_ref().map(ChannelName::as_str).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<ChannelName>, D::Error> {
        channel::deserialize(from).map(Some)
    }
}

pub(super) mod channel_list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        names: &[ChannelName],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(names.iter().map(ChannelName::as_str))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<ChannelName>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        let names = names.iter().map(|name| ChannelName::new(name));
        names.collect::<Result<_, _>>().map_err(de::Error::custom)
    }
}

/// `[["chat", 3], …]`
pub(super) mod channels {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        channels: &[(ChannelName, usize)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(channels.iter().map(|(name, count)| (name.as_str(), count)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(ChannelName, usize)>, D::Error> {
        let channels = Vec::<(String, usize)>::deserialize(from)?;
        let channels = channels.iter().map(|(name, count)| Ok((ChannelName::new(name)?, *count)));
        let channels: Result<_, crate::channel::InvalidChannelName> = channels.collect();
        channels.map_err(de::Error::custom)
    }
}

pub(super) mod message_id {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &MessageId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MessageId, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

pub(super) mod glob {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(glob: &Glob, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(glob.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Glob, D::Error> {
        Glob::new(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// JSON within JSON.
pub(super) mod optional_json {
    use serde::ser::Error as _;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(json: &Option<Bytes>, to: S) -> Result<S::Ok, S::Error> {
        let raw = |json: &Bytes| serde_json::from_slice::<&RawValue>(json).map(RawValue::to_owned);
        let raw = json.as_ref().map(raw).transpose().map_err(S::Error::custom)?;
        raw.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Bytes>, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        Ok(Some(Box::<str>::from(raw).into_string().into()))
    }
}

/// `{"offset": 3, "epoch": "…"}`
pub(super) mod optional_resume {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Written {
        #[serde(default)]
        offset: u64,
        #[serde(default)]
        epoch: String,
    }

    pub(crate) fn serialize<S: Serializer>(at: &Option<Resume>, to: S) -> Result<S::Ok, S::Error> {
        let written = |at: &Resume| Written { offset: at.offset, epoch: at.epoch.clone() };
        at.as_ref().map(written).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Resume>, D::Error> {
        let Written { offset, epoch } = Written::deserialize(from)?;
        Ok(Some(Resume { offset, epoch }))
    }
}

/// [`SubscriptionOptions`] as text.
#[derive(Serialize, Deserialize)]
#[serde(remote = "SubscriptionOptions", default = "SubscriptionOptions::default")]
pub(super) struct Options {
    #[serde(with = "optional_json", skip_serializing_if = "Option::is_none")]
    info: Option<Bytes>,
    #[serde(with = "optional_json", skip_serializing_if = "Option::is_none")]
    data: Option<Bytes>,
    #[serde(with = "Differences")]
    overrides: Overrides,
}

/// [`Overrides`] as text.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Overrides", default = "Overrides::default")]
struct Differences {
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_leave: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    force_recovery: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    force_positioning: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    force_push_join_leave: Option<bool>,
}
