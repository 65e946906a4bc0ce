//! Who owns what in a cluster, and whom to believe about it when its nodes differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::report::Report;
use crate::{partition::Partition, url::Endpoint};

/// The name of a node, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(Arc<str>);

impl NodeId {
    pub(crate) fn new(id: &str) -> Self {
        Self(id.into())
    }
}

/// What the nodes of a cluster say of who owns what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    /// Those that have partitions, by the primary's name. What nobody owns is in none.
    pub(crate) shards: Vec<Shard>,
}

/// A primary with its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    /// Where the primary is.
    pub(crate) primary: Endpoint,
    /// Its name.
    pub(crate) primary_id: NodeId,
    /// The primary and its replicas.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// In their order; never none.
    pub(crate) partitions: Vec<Partition>,
}

/// What follows from all reports, of different nodes.
pub(super) fn judge(reports: &[&Report]) -> Map {
    let mut owned = BTreeMap::<&NodeId, Vec<Partition>>::new();
    for partition in Partition::all() {
        if let Some(owner) = owner(reports, partition) {
            owned.entry(owner).or_default().push(partition);
        }
    }
    let mut replicas = replicas(reports);
    let shard = |(id, partitions): (&NodeId, Vec<Partition>)| {
        let mut nodes = replicas.remove(id).unwrap_or_default();
        nodes.insert(id.clone());
        let endpoint = |report: &&Report| report.nodes.get(id)?.endpoint.clone();
        let primary = most_said(reports.iter().filter_map(endpoint))?;
        Some(Shard { primary, primary_id: id.clone(), nodes, partitions })
    };
    Map { shards: owned.into_iter().filter_map(shard).collect() }
}

/// Whose claim is the newest; of equal ones, the one that most know of. Nobody is believed to own
/// what it says itself, of a time as new, that it does not.
fn owner<'a>(reports: &[&'a Report], partition: Partition) -> Option<&'a NodeId> {
    let claim = |report: &&'a Report| {
        let owner = report.owners[partition.place()].as_ref()?;
        Some((owner, report.nodes.get(owner)?.epoch))
    };
    let claims: Vec<_> = reports.iter().filter_map(claim).collect();
    let rank = |&(owner, epoch): &(&NodeId, u64)| {
        let denies = |report: &&Report| {
            report.by == *owner
                && report.owners[partition.place()].as_ref() != Some(owner)
                && report.nodes.get(owner).is_some_and(|itself| itself.epoch >= epoch)
        };
        let count = claims.iter().filter(|claim| **claim == (owner, epoch)).count();
        (!reports.iter().any(denies), epoch, count)
    };
    claims.iter().max_by_key(|claim| rank(claim)).map(|(owner, _)| *owner)
}

/// By primary. Of a node that moves from one to another, most are believed.
fn replicas(reports: &[&Report]) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
    let mut replicas = BTreeMap::<_, BTreeSet<_>>::new();
    let all: BTreeSet<_> = reports.iter().flat_map(|report| report.nodes.keys()).collect();
    for id in all {
        let primary = |report: &&Report| Some(report.nodes.get(id)?.primary.clone());
        if let Some(Some(primary)) = most_said(reports.iter().filter_map(primary)) {
            replicas.entry(primary).or_default().insert(id.clone());
        }
    }
    replicas
}

/// The first of those that were said most often.
fn most_said<T: PartialEq>(said: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for it in said {
        match counts.iter_mut().find(|(known, _)| *known == it) {
            Some((_, count)) => *count += 1,
            None => counts.push((it, 1)),
        }
    }
    // The last of equals wins.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(it, _)| it)
}

#[cfg(test)]
mod tests;
