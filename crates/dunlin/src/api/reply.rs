//! What callers of the HTTP API get: results and errors as JSON.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use dunlin_core::{
    broker::History,
    position::Position,
    presence::{Members, PresenceStats},
    publication::{ClientInfo, Kind, Publication},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::{failure::Failure, survey::Surveyed};

/// How a call went.
pub(super) type Reply = Result<Answer, Failure>;

/// The result of a call that went well.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Done {},
    Published(Published),
    Broadcast {
        responses: Vec<Wrapped<Published>>,
    },
    Presence {
        presence: BTreeMap<String, Member>,
        /// There are more.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
    },
    PresenceStats {
        num_clients: usize,
        num_users: usize,
    },
    History(Box<Past>),
    Surveyed(Surveyed),
}

/// A reply as it stands in a body or in a list of replies: `{"result": …}` or `{"error": …}`.
#[derive(Debug)]
pub(super) struct Wrapped<T>(pub(super) Result<T, Failure>);

/// Where a publication is in the channel's stream; nowhere when the channel keeps nothing.
#[derive(Debug, Serialize)]
pub(super) struct Published {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

/// A member of a channel.
#[derive(Debug, Serialize)]
pub(super) struct Member {
    user: String,
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<Box<RawValue>>,
}

/// A part of a channel's history.
#[derive(Debug, Serialize)]
pub(super) struct Past {
    publications: Vec<Kept>,
    offset: u64,
    epoch: String,
}

/// A publication of the past.
#[derive(Debug, Serialize)]
struct Kept {
    /// Null when the payload is binary.
    data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Member>,
    offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

/// JSON as it was published, or other text as a JSON string, which is how clients get it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data {
    Json(Box<RawValue>),
    Text(String),
}

impl From<Option<Position>> for Published {
    fn from(position: Option<Position>) -> Self {
        Self {
            offset: position.map(|position| position.offset),
            epoch: position.map(|position| position.epoch.to_string()),
        }
    }
}

impl From<&ClientInfo> for Member {
    fn from(info: &ClientInfo) -> Self {
        let raw = |json: &Option<Bytes>| serde_json::from_slice(json.as_deref()?).ok();
        Self {
            user: info.user.to_string(),
            client: info.client.to_string(),
            conn_info: raw(&info.conn_info),
            chan_info: raw(&info.chan_info),
        }
    }
}

impl From<&Publication> for Kept {
    fn from(publication: &Publication) -> Self {
        let payload = publication.data();
        let (data, b64data) = match publication.kind() {
            Kind::Binary => (None, Some(BASE64_STANDARD.encode(payload))),
            _ => (Some(Data::from(payload)), None),
        };
        let details = publication.details();
        Self {
            data,
            b64data,
            info: details.and_then(|details| details.info.as_ref()).map(Member::from),
            offset: publication.position().map_or(0, |position| position.offset),
            tags: details.map(|details| details.tags.clone()).unwrap_or_default(),
        }
    }
}

impl From<&[u8]> for Data {
    fn from(text: &[u8]) -> Self {
        match serde_json::from_slice(text) {
            Ok(json) => Self::Json(json),
            Err(_) => Self::Text(String::from_utf8_lossy(text).into_owned()),
        }
    }
}

impl From<History> for Answer {
    fn from(history: History) -> Self {
        let publications = history.publications.iter().map(|kept| Kept::from(&**kept)).collect();
        let Position { offset, epoch } = history.top;
        Self::History(Box::new(Past { publications, offset, epoch: epoch.to_string() }))
    }
}

impl From<Members> for Answer {
    fn from(members: Members) -> Self {
        let named = members.first.iter().map(|info| (info.client.to_string(), Member::from(info)));
        Self::Presence { presence: named.collect(), truncated: members.is_truncated }
    }
}

impl From<PresenceStats> for Answer {
    fn from(stats: PresenceStats) -> Self {
        Self::PresenceStats { num_clients: stats.clients, num_users: stats.users }
    }
}

impl<T: Serialize> Serialize for Wrapped<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        match &self.0 {
            Ok(result) => map.serialize_entry("result", result)?,
            Err(failure) => map.serialize_entry("error", failure)?,
        }
        map.end()
    }
}

/// A reply in the list of a batch: `{"publish": …}` or `{"error": …}`.
pub(super) struct Named(pub(super) &'static str, pub(super) Reply);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(method, reply) = self;
        let mut map = to.serialize_map(Some(1))?;
        match reply {
            Ok(result) => map.serialize_entry(method, result)?,
            Err(failure) => map.serialize_entry("error", failure)?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use dunlin_core::channel::ChannelName;

    use super::*;

    #[track_caller]
    fn check(kind: Kind, payload: &'static [u8], json: &str) {
        let channel = ChannelName::new("c").unwrap();
        let publication = Publication::new(channel, kind, Bytes::from_static(payload));
        let kept = serde_json::to_string(&Kept::from(&publication)).unwrap();
        assert_eq!(kept, json);
    }

    #[test]
    fn a_payload_is_told_as_what_it_is() {
        check(Kind::Text, b"{ \"a\": 1e3 }", r#"{"data":{ "a": 1e3 },"offset":0}"#);
        check(Kind::Text, b"no \"json\"", r#"{"data":"no \"json\"","offset":0}"#);
        check(Kind::Text, b"", r#"{"data":"","offset":0}"#);
        check(Kind::Binary, b"\0\xff", r#"{"data":null,"b64data":"AP8=","offset":0}"#);
        check(Kind::Binary, b"1", r#"{"data":null,"b64data":"MQ==","offset":0}"#);
    }
}
