//! The fields of the API's methods by their names, which `docs/openapi.json` explains.
#![expect(missing_docs, reason = "the document of the API explains its fields")]

use std::collections::BTreeMap;

use dunlin_core::{auth::claims::Overrides, json};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The fields of `publish` and `broadcast`.
#[derive(Debug, Default, Deserialize)]
pub struct Publish {
    pub channel: Option<String>,
    pub channels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "payload")]
    pub data: Option<Box<RawValue>>,
    pub b64data: Option<String>,
    pub skip_history: Option<bool>,
    pub tags: Option<BTreeMap<String, String>>,
    pub idempotency_key: Option<String>,
    pub delta: Option<bool>,
    pub version: Option<u64>,
    pub version_epoch: Option<String>,
}

/// The fields of `subscribe`.
#[derive(Debug, Deserialize)]
pub struct Subscribe {
    pub channel: Option<String>,
    pub user: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
    pub expire_at: Option<u64>,
    pub info: Option<Box<RawValue>>,
    pub b64info: Option<String>,
    pub data: Option<Box<RawValue>>,
    pub b64data: Option<String>,
    #[serde(default, deserialize_with = "json::object")]
    pub recover_since: Option<StreamPosition>,
    #[serde(default, deserialize_with = "json::object", rename = "override")]
    pub overrides: Option<Override>,
}

/// Options of the channel that are different for one subscription.
#[derive(Debug, Deserialize)]
pub struct Override {
    #[serde(default, deserialize_with = "json::object")]
    pub presence: Option<Switch>,
    #[serde(default, deserialize_with = "json::object")]
    pub join_leave: Option<Switch>,
    #[serde(default, deserialize_with = "json::object")]
    pub force_recovery: Option<Switch>,
    #[serde(default, deserialize_with = "json::object")]
    pub force_positioning: Option<Switch>,
    #[serde(default, deserialize_with = "json::object")]
    pub force_push_join_leave: Option<Switch>,
}

/// `{"value": true}`
#[derive(Debug, Deserialize)]
pub struct Switch {
    value: Option<bool>,
}

impl From<Override> for Overrides {
    fn from(written: Override) -> Self {
        let set = |switch: Option<Switch>| switch.map(|switch| switch.value.unwrap_or_default());
        Self {
            presence: set(written.presence),
            join_leave: set(written.join_leave),
            force_recovery: set(written.force_recovery),
            force_positioning: set(written.force_positioning),
            force_push_join_leave: set(written.force_push_join_leave),
        }
    }
}

/// The fields of `unsubscribe`.
#[derive(Debug, Deserialize)]
pub struct Unsubscribe {
    pub channel: Option<String>,
    pub user: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
}

/// The fields of `disconnect`.
#[derive(Debug, Deserialize)]
pub struct Disconnect {
    pub user: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
    pub whitelist: Option<Vec<String>>,
    #[serde(default, deserialize_with = "json::object")]
    pub disconnect: Option<CloseCode>,
}

/// The code and the reason that a client is told.
#[derive(Debug, Default, Deserialize)]
pub struct CloseCode {
    pub code: Option<u32>,
    pub reason: Option<String>,
}

/// The fields of `refresh`.
#[derive(Debug, Deserialize)]
pub struct Refresh {
    pub user: Option<String>,
    pub client: Option<String>,
    pub session: Option<String>,
    pub expired: Option<bool>,
    pub expire_at: Option<u64>,
    pub info: Option<Box<RawValue>>,
}

/// The field of methods that only name a channel.
#[derive(Debug, Deserialize)]
pub struct OfChannel {
    pub channel: Option<String>,
}

/// A place in a channel's stream.
#[derive(Debug, Deserialize)]
pub struct StreamPosition {
    pub offset: Option<u64>,
    pub epoch: Option<String>,
}

/// The fields of `history`.
#[derive(Debug, Deserialize)]
pub struct History {
    pub channel: Option<String>,
    pub limit: Option<i32>,
    #[serde(default, deserialize_with = "json::object")]
    pub since: Option<StreamPosition>,
    pub reverse: Option<bool>,
}

/// The field of `channels`.
#[derive(Debug, Deserialize)]
pub struct Channels {
    pub pattern: Option<String>,
}

/// The fields of `connections`.
#[derive(Debug, Deserialize)]
pub struct Connections {
    pub user: Option<String>,
    pub expression: Option<String>,
}

/// The fields of `top`.
#[derive(Debug, Deserialize)]
pub struct Top {
    pub by: Option<String>,
    pub limit: Option<usize>,
}

/// The fields of `rpc`.
#[derive(Debug, Deserialize)]
pub struct Rpc {
    pub method: Option<String>,
    pub params: Option<Box<RawValue>>,
}

/// The fields of `revoke_token`.
#[derive(Debug, Deserialize)]
pub struct RevokeToken {
    pub uid: Option<String>,
    pub expire_at: Option<u64>,
}

/// The fields of `invalidate_user_tokens`.
#[derive(Debug, Deserialize)]
pub struct InvalidateUserTokens {
    pub user: Option<String>,
    pub issued_before: Option<u64>,
    pub expire_at: Option<u64>,
    pub channel: Option<String>,
}

/// A payload keeps the text that it was written in; null is a payload too.
fn payload<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(from).map(Some)
}
