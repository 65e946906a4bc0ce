//! What all nodes together know. A node that falls silent before it has answered is
//! named in the result.

use std::{cmp::Reverse, collections::BTreeMap};

use dunlin_core::{
    control::{Glob, Measure, Part, Question, TopReport},
    error::ClientError,
    ids::NodeId,
};
use serde::Serialize;

use super::{
    Api,
    failure::Failure,
    fields,
    reply::{Answer, Reply},
};
use crate::control::Findings;

/// What a survey found, and who did not answer.
#[derive(Debug, Serialize)]
pub(super) struct Surveyed {
    #[serde(flatten)]
    found: Found,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Missing>,
    /// There is more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// What the nodes that answered know.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Nodes(Vec<NodeResult>),
    Channels(BTreeMap<String, ChannelResult>),
    Connections(BTreeMap<String, ConnectionResult>),
    Top(Vec<TopResult>),
}

/// What was not found.
struct Rest {
    missing: Vec<Missing>,
    truncated: bool,
}

/// A node that did not answer.
#[derive(Debug, Serialize)]
struct Missing {
    uid: String,
    name: String,
}

#[derive(Debug, Serialize)]
struct NodeResult {
    uid: String,
    name: String,
    version: String,
    num_clients: usize,
    num_users: usize,
    num_subs: usize,
    num_channels: usize,
    uptime: u64,
}

#[derive(Debug, Default, Serialize)]
struct ChannelResult {
    num_clients: usize,
}

#[derive(Debug, Serialize)]
struct ConnectionResult {
    user: String,
    transport: &'static str,
    protocol: String,
    state: ConnectionState,
}

#[derive(Debug, Serialize)]
struct ConnectionState {
    /// Nothing is told of a subscription but that there is one.
    channels: BTreeMap<String, Nothing>,
}

#[derive(Debug, Serialize)]
struct Nothing {}

#[derive(Debug, Serialize)]
struct TopResult {
    /// The id of its node.
    node: String,
    connection: String,
    client: String,
    user: String,
    address: String,
    dialect: String,
    /// Seconds.
    age: u64,
    used_us: u32,
    owed_bytes: usize,
    num_channels: usize,
}

/// How many connections `top` names if nobody says it, and at most.
const TOP_USUAL: usize = 10;
const TOP_MAX: usize = 1000;

impl Api {
    pub(super) async fn info(&self) -> Reply {
        let (parts, rest) = split(self.control.ask(Question::Node {}).await);
        let mut nodes: Vec<_> = parts.filter_map(node).collect();
        nodes.sort_by(|one, other| (&one.name, &one.uid).cmp(&(&other.name, &other.uid)));
        Ok(answer(Found::Nodes(nodes), rest))
    }

    pub(super) async fn channels(&self, fields: fields::Channels) -> Reply {
        let pattern = fields.pattern.unwrap_or_default();
        let pattern = Glob::new(&pattern).map_err(|why| Failure::of_field("pattern", why))?;
        let (parts, rest) = split(self.control.ask(Question::Channels { pattern }).await);
        let mut channels = BTreeMap::<String, ChannelResult>::new();
        for (_, part) in parts {
            let Part::Channels(counts) = part else { continue };
            for (name, count) in counts {
                channels.entry(name.to_string()).or_default().num_clients += count;
            }
        }
        Ok(answer(Found::Channels(channels), rest))
    }

    pub(super) async fn connections(&self, fields: fields::Connections) -> Reply {
        // Whoever filters by an expression wants fewer than there are.
        if fields.expression.is_some_and(|expression| !expression.is_empty()) {
            let why = "connections are not picked by an expression; leave it out";
            return Err(Failure::new(ClientError::NotAvailable, why));
        }
        let user = fields.user.filter(|user| !user.is_empty()).map(Into::into);
        let (parts, rest) = split(self.control.ask(Question::Connections { user }).await);
        let mut connections = BTreeMap::new();
        for (_, part) in parts {
            let Part::Connections(reports) = part else { continue };
            for report in reports {
                let channels = report.channels.iter().map(|name| (name.to_string(), Nothing {}));
                let connection = ConnectionResult {
                    user: report.user.into(),
                    transport: "websocket",
                    protocol: report.protocol.into(),
                    state: ConnectionState { channels: channels.collect() },
                };
                connections.insert(report.client.into(), connection);
            }
        }
        Ok(answer(Found::Connections(connections), rest))
    }

    pub(super) async fn top(&self, fields: fields::Top) -> Reply {
        let by = match fields.by.as_deref() {
            None | Some("" | "time") => Measure::Time,
            Some("owed") => Measure::Owed,
            Some("channels") => Measure::Channels,
            Some(_) => return Err(Failure::of_field("by", "expected time, owed or channels")),
        };
        let limit = match fields.limit {
            None | Some(0) => TOP_USUAL,
            Some(limit @ ..=TOP_MAX) => limit,
            Some(_) => {
                let why = format!("expected at most {TOP_MAX}");
                return Err(Failure::of_field("limit", why));
            }
        };
        let (parts, rest) = split(self.control.ask(Question::Top { by, limit }).await);
        let reports = parts.flat_map(|(node, part)| match part {
            Part::Top(reports) => reports.into_iter().map(|one| (node, one)).collect(),
            _ => Vec::new(),
        });
        let mut reports: Vec<_> = reports.collect();
        reports.sort_by_key(|(_, one)| Reverse(one.by(by)));
        reports.truncate(limit);
        Ok(answer(Found::Top(reports.into_iter().map(top_result).collect()), rest))
    }
}

fn top_result((node, report): (NodeId, TopReport)) -> TopResult {
    TopResult {
        node: node.to_string(),
        connection: report.connection.into(),
        client: report.client.into(),
        user: report.user.into(),
        address: report.address.into(),
        dialect: report.dialect.into(),
        age: report.age_s,
        used_us: report.used_us,
        owed_bytes: report.owed_bytes,
        num_channels: report.channels,
    }
}

fn split(findings: Findings) -> (impl Iterator<Item = (NodeId, Part)>, Rest) {
    let answers = findings.answers.into_iter();
    let parts = answers.flat_map(|(node, parts)| parts.into_iter().map(move |part| (node, part)));
    let missing = findings.missing.into_iter();
    let missing = missing.map(|(node, name)| Missing { uid: node.to_string(), name }).collect();
    (parts, Rest { missing, truncated: findings.is_truncated })
}

fn node((node, part): (NodeId, Part)) -> Option<NodeResult> {
    let Part::Node(report) = part else { return None };
    Some(NodeResult {
        uid: node.to_string(),
        name: report.name,
        version: report.version,
        num_clients: report.clients,
        num_users: report.users,
        num_subs: report.subscriptions,
        num_channels: report.channels,
        uptime: report.uptime_s,
    })
}

fn answer(found: Found, Rest { missing, truncated }: Rest) -> Answer {
    Answer::Surveyed(Surveyed { found, missing, truncated })
}
