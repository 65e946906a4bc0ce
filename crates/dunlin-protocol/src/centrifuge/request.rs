//! Requests as they are written: by their names in JSON, by their numbers in Protobuf. Absent, null
//! and zero are the same, but for payloads, which may be null. Fields that nothing here asks for
//! are left out, and skipped like unknown ones.

mod vocabulary;

use std::collections::BTreeMap;

use bytes::Bytes;
use dunlin_core::json::{self, Object};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

#[derive(Deserialize, prost::Message)]
pub(super) struct Command {
    #[prost(uint32, optional, tag = "1")]
    id: Option<u32>,
    #[prost(message, optional, tag = "4")]
    #[serde(default, deserialize_with = "json::object")]
    connect: Option<ConnectRequest>,
    #[prost(message, optional, tag = "5")]
    #[serde(default, deserialize_with = "json::object")]
    subscribe: Option<SubscribeRequest>,
    #[prost(message, optional, tag = "6")]
    #[serde(default, deserialize_with = "json::object")]
    unsubscribe: Option<ChannelRequest>,
    #[prost(message, optional, tag = "7")]
    #[serde(default, deserialize_with = "json::object")]
    publish: Option<PublishRequest>,
    #[prost(message, optional, tag = "8")]
    #[serde(default, deserialize_with = "json::object")]
    presence: Option<ChannelRequest>,
    #[prost(message, optional, tag = "9")]
    #[serde(default, deserialize_with = "json::object")]
    presence_stats: Option<ChannelRequest>,
    #[prost(message, optional, tag = "10")]
    #[serde(default, deserialize_with = "json::object")]
    history: Option<HistoryRequest>,
    #[prost(message, optional, tag = "11")]
    #[serde(default, deserialize_with = "json::object")]
    ping: Option<PingRequest>,
    #[prost(message, optional, tag = "12")]
    #[serde(default, deserialize_with = "json::object")]
    send: Option<SendRequest>,
    #[prost(message, optional, tag = "13")]
    #[serde(default, deserialize_with = "json::object")]
    rpc: Option<RpcRequest>,
    #[prost(message, optional, tag = "14")]
    #[serde(default, deserialize_with = "json::object")]
    refresh: Option<RefreshRequest>,
    #[prost(message, optional, tag = "15")]
    #[serde(default, deserialize_with = "json::object")]
    sub_refresh: Option<SubRefreshRequest>,
}

#[derive(Deserialize, prost::Message)]
struct ConnectRequest {
    #[prost(string, optional, tag = "1")]
    token: Option<String>,
    #[prost(btree_map = "string, message", tag = "3")]
    #[serde(default, deserialize_with = "objects_by_name")]
    subs: BTreeMap<String, SubscribeRequest>,
}

#[derive(PartialEq, Deserialize, prost::Message)]
struct SubscribeRequest {
    #[prost(string, optional, tag = "1")]
    channel: Option<String>,
    #[prost(string, optional, tag = "2")]
    token: Option<String>,
    #[prost(bool, optional, tag = "3")]
    recover: Option<bool>,
    #[prost(string, optional, tag = "6")]
    epoch: Option<String>,
    #[prost(uint64, optional, tag = "7")]
    offset: Option<u64>,
    #[prost(bool, optional, tag = "9")]
    positioned: Option<bool>,
    #[prost(bool, optional, tag = "10")]
    recoverable: Option<bool>,
    #[prost(bool, optional, tag = "11")]
    join_leave: Option<bool>,
    #[prost(string, optional, tag = "12")]
    delta: Option<String>,
    #[prost(message, optional, tag = "13")]
    #[serde(default, deserialize_with = "json::object")]
    tf: Option<FilterNode>,
    #[prost(int64, optional, tag = "14")]
    flag: Option<i64>,
    #[prost(int32, optional, tag = "15")]
    r#type: Option<i32>,
}

/// How deep a filter may be nested is bounded by the decoders, far above what any filter may have:
/// one that is a little too deep is read, and refused with a reason.
#[derive(PartialEq, Deserialize, prost::Message)]
struct FilterNode {
    #[prost(string, optional, tag = "1")]
    op: Option<String>,
    #[prost(string, optional, tag = "2")]
    key: Option<String>,
    #[prost(string, optional, tag = "3")]
    cmp: Option<String>,
    #[prost(string, optional, tag = "4")]
    val: Option<String>,
    #[prost(string, repeated, tag = "5")]
    #[serde(default, deserialize_with = "default_if_null")]
    vals: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    #[serde(default, deserialize_with = "objects")]
    nodes: Vec<Self>,
}

/// A request that says nothing but a channel.
#[derive(Deserialize, prost::Message)]
struct ChannelRequest {
    #[prost(string, optional, tag = "1")]
    channel: Option<String>,
}

#[derive(Deserialize, prost::Message)]
struct PublishRequest {
    #[prost(string, optional, tag = "1")]
    channel: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    #[serde(default, deserialize_with = "raw")]
    data: Option<Bytes>,
    #[prost(int32, optional, tag = "3")]
    r#type: Option<i32>,
}

#[derive(Deserialize, prost::Message)]
struct HistoryRequest {
    #[prost(string, optional, tag = "1")]
    channel: Option<String>,
    #[prost(int32, optional, tag = "7")]
    limit: Option<i32>,
    #[prost(message, optional, tag = "8")]
    #[serde(default, deserialize_with = "json::object")]
    since: Option<StreamPosition>,
    #[prost(bool, optional, tag = "9")]
    reverse: Option<bool>,
}

#[derive(Deserialize, prost::Message)]
struct StreamPosition {
    #[prost(uint64, optional, tag = "1")]
    offset: Option<u64>,
    #[prost(string, optional, tag = "2")]
    epoch: Option<String>,
}

#[derive(Deserialize, prost::Message)]
struct PingRequest {}

#[derive(Deserialize, prost::Message)]
struct SendRequest {
    #[prost(bytes = "bytes", optional, tag = "1")]
    #[serde(default, deserialize_with = "raw")]
    data: Option<Bytes>,
}

#[derive(Deserialize, prost::Message)]
struct RpcRequest {
    #[prost(bytes = "bytes", optional, tag = "1")]
    #[serde(default, deserialize_with = "raw")]
    data: Option<Bytes>,
    #[prost(string, optional, tag = "2")]
    method: Option<String>,
}

#[derive(Deserialize, prost::Message)]
struct RefreshRequest {
    #[prost(string, optional, tag = "1")]
    token: Option<String>,
}

#[derive(Deserialize, prost::Message)]
struct SubRefreshRequest {
    #[prost(string, optional, tag = "1")]
    channel: Option<String>,
    #[prost(string, optional, tag = "2")]
    token: Option<String>,
    #[prost(int32, optional, tag = "3")]
    r#type: Option<i32>,
}

/// A JSON value as it stands, null included.
fn raw<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Bytes>, D::Error> {
    let value = <&RawValue>::deserialize(from)?;
    Ok(Some(Bytes::copy_from_slice(value.get().as_bytes())))
}

fn objects<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects: Vec<Object<T>> = default_if_null(from)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

fn objects_by_name<'de, D, T>(from: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects: BTreeMap<String, Object<T>> = default_if_null(from)?;
    Ok(objects.into_iter().map(|(name, Object(value))| (name, value)).collect())
}

fn default_if_null<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(from).map(Option::unwrap_or_default)
}
