//! The register of the other nodes: who gave a sign of life, and when. Pure.

use std::{collections::HashMap, time::Duration};

use dunlin_core::{control::Introduction, ids::NodeId};
use tokio::time::Instant;

/// How often a node gives a sign of life.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);

/// When a node that gives none is forgotten.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// Most nodes known; those beyond are not.
const NODES_MAX: usize = 1024;

/// The nodes that live, as far as this one knows.
#[derive(Debug, Default)]
pub(super) struct Register {
    nodes: HashMap<NodeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    introduction: Introduction,
    heard_at: Instant,
}

/// Whether a node was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acquaintance {
    Old,
    New,
}

impl Register {
    /// Notes a sign of life.
    pub(super) fn hear(
        &mut self,
        node: NodeId,
        introduction: Introduction,
        now: Instant,
    ) -> Acquaintance {
        self.forget(now);
        let is_known = self.nodes.contains_key(&node);
        if is_known || self.nodes.len() < NODES_MAX {
            self.nodes.insert(node, Entry { introduction, heard_at: now });
        }
        if is_known { Acquaintance::Old } else { Acquaintance::New }
    }

    /// Notes that a node left.
    pub(super) fn leave(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// The nodes that live, with their names.
    pub(super) fn living(&mut self, now: Instant) -> Vec<(NodeId, String)> {
        self.forget(now);
        let names = self.nodes.iter().map(|(node, entry)| (*node, entry.introduction.name.clone()));
        names.collect()
    }

    fn forget(&mut self, now: Instant) {
        self.nodes.retain(|_, entry| now.duration_since(entry.heard_at) < FORGOTTEN_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Introduction {
        Introduction { name: name.to_owned(), version: "1".to_owned() }
    }

    #[test]
    fn nodes_live_while_they_are_heard() {
        let mut register = Register::default();
        let (one, two, start) = (NodeId::new(1), NodeId::new(2), Instant::now());
        assert_eq!(register.hear(one, named("a"), start), Acquaintance::New);
        assert_eq!(register.hear(two, named("b"), start), Acquaintance::New);
        let later = start + FORGOTTEN_AFTER - HEARTBEAT;
        assert_eq!(register.hear(one, named("a"), later), Acquaintance::Old);
        assert_eq!(register.living(later).len(), 2);
        let last = start + FORGOTTEN_AFTER;
        assert_eq!(register.living(last), [(one, "a".to_owned())]);
        register.leave(one);
        assert!(register.living(last).is_empty());
    }

    #[test]
    fn there_are_no_more_nodes_than_can_be() {
        let mut register = Register::default();
        let now = Instant::now();
        for number in 0..NODES_MAX as u64 + 9 {
            register.hear(NodeId::new(number), named("n"), now);
        }
        assert_eq!(register.living(now).len(), NODES_MAX);
    }
}
