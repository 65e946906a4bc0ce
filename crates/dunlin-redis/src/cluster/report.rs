//! What one node of a cluster says of all of them. CLUSTER SLOTS tells who owns what, and where
//! that is; CLUSTER NODES tells how new that is, and who replicates whom. CLUSTER SHARDS would tell
//! all but how new it is, and has two primaries in a shard whose first one is dead.

use std::collections::BTreeMap;

use super::map::NodeId;
use crate::{
    link::value::Value,
    partition::{Partition, SLOTS},
    url::{Endpoint, Security},
};

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// Who says it.
    pub(super) by: NodeId,
    /// All that it knows, itself among them.
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// Who owns each partition.
    pub(super) owners: Vec<Option<NodeId>>,
}

/// A node as another one, or it itself, sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Where clients find it, if it is one for clients.
    pub(super) endpoint: Option<Endpoint>,
    /// How new its claims are: of two that claim a slot, the newer one has it.
    pub(super) epoch: u64,
    /// Whom it replicates.
    pub(super) primary: Option<NodeId>,
}

/// Where the node is that gave the answers, as whoever asked it sees it.
pub(super) struct Asked<'a> {
    pub(super) host: &'a str,
    pub(super) security: Security,
}

impl Report {
    /// Reads the answers to CLUSTER SLOTS and CLUSTER NODES; none if they make no sense.
    pub(super) fn read(slots: &Value, nodes: &Value, asked: &Asked<'_>) -> Option<Self> {
        let text = str::from_utf8(nodes.as_bytes()?).ok()?;
        let lines = Lines::read(text.strip_prefix("txt:").unwrap_or(text));
        let mut report =
            Self { by: lines.myself?, nodes: lines.nodes, owners: vec![None; Partition::COUNT] };
        let Value::Array(ranges) = slots else { return None };
        let mut by_slot = vec![None; usize::from(SLOTS)];
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [Value::Integer(first), Value::Integer(last), members @ ..] = &parts[..] else {
                return None;
            };
            let slots = usize::try_from(*first).ok()?..=usize::try_from(*last).ok()?;
            for (number, member) in members.iter().enumerate() {
                let member = Member::read(member)?;
                if number == 0 {
                    by_slot.get_mut(slots.clone())?.fill(Some(member.id.clone()));
                }
                let endpoint = member.endpoint(&lines.addresses, asked);
                report.nodes.entry(member.id).or_default().endpoint = endpoint;
            }
        }
        for partition in Partition::all() {
            report.owners[partition.place()] = by_slot[usize::from(partition.slot())].take();
        }
        Some(report)
    }
}

/// The answer to CLUSTER NODES.
#[derive(Default)]
struct Lines {
    myself: Option<NodeId>,
    nodes: BTreeMap<NodeId, Node>,
    /// Where they are for one another, where that is known.
    addresses: BTreeMap<NodeId, String>,
}

impl Lines {
    fn read(text: &str) -> Self {
        let mut lines = Self::default();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [id, address, flags, primary, _, _, epoch, ..] = words[..] else { continue };
            let id = NodeId::new(id);
            if flags.split(',').any(|flag| flag == "myself") {
                lines.myself = Some(id.clone());
            }
            let host = address.split('@').next().and_then(|it| it.rsplit_once(':'));
            if let Some((host, _)) = host.filter(|(host, _)| !host.is_empty()) {
                lines.addresses.insert(id.clone(), host.to_owned());
            }
            let primary = (primary != "-").then(|| NodeId::new(primary));
            let epoch = epoch.parse().unwrap_or_default();
            lines.nodes.insert(id, Node { endpoint: None, epoch, primary });
        }
        lines
    }
}

/// A node in an answer to CLUSTER SLOTS.
struct Member<'a> {
    host: Option<&'a str>,
    port: u16,
    id: NodeId,
}

impl<'a> Member<'a> {
    fn read(value: &'a Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let [host, Value::Integer(port), id, ..] = &parts[..] else { return None };
        let text = |value: &'a Value| str::from_utf8(value.as_bytes()?).ok();
        Some(Self {
            host: text(host),
            port: u16::try_from(*port).ok()?,
            id: NodeId::new(text(id)?),
        })
    }

    fn endpoint(
        &self,
        addresses: &BTreeMap<NodeId, String>,
        asked: &Asked<'_>,
    ) -> Option<Endpoint> {
        let host = match self.host {
            // Whoever was asked does not know how it is reached; clients do.
            None | Some("") => asked.host,
            // It is to be reached by name, and has none yet.
            Some("?") => addresses.get(&self.id)?,
            Some(host) => host,
        };
        Some(Endpoint::Tcp { host: host.to_owned(), port: self.port, security: asked.security })
    }
}

#[cfg(test)]
mod tests;
