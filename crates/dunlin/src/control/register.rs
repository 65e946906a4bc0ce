//! The register of the other nodes: who gave a sign of life, when, and by which clock. Pure.

use std::{collections::HashMap, time::Duration};

use dunlin_core::{control::Introduction, ids::NodeId};
use tokio::time::Instant;

use super::clock::Clock;

/// How often a node gives a sign of life.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);

/// When a node that gives none is forgotten.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// Most nodes known; those beyond are not.
const NODES_MAX: usize = 1024;

/// How often the operator is told of wrong clocks.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The nodes that live, as far as this one knows.
#[derive(Debug, Default)]
pub(super) struct Register {
    nodes: HashMap<NodeId, Entry>,
    /// When the operator was last told of a wrong clock.
    told_at: Option<Instant>,
    /// The nodes of another layout that the operator was told of.
    told_layouts: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    introduction: Introduction,
    heard_at: Instant,
    clock: Clock,
}

/// When a node heard a sign of life, and what its clock of day said then, in unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) clock_ms: u64,
}

/// A clock that is not as this node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongClock {
    /// The name of its node.
    pub(super) node: String,
    /// By how much it is ahead, in milliseconds; below 0, it is behind.
    pub(super) ahead_ms: i64,
}

/// What is new about a node that gave a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// It was not known before.
    pub(super) is_itself: bool,
    /// How many revocations it knows, if it says so for the first time.
    pub(super) revoked: Option<usize>,
}

impl Register {
    /// Notes a sign of life, which its writer's clock dates `sent_at_ms`.
    pub(super) fn hear(
        &mut self,
        node: NodeId,
        introduction: Introduction,
        sent_at_ms: u64,
        heard: Moment,
    ) -> News {
        self.forget(heard.now);
        let is_itself = !self.nodes.contains_key(&node);
        let revoked = introduction.revoked;
        if is_itself && self.nodes.len() >= NODES_MAX {
            return News { is_itself, revoked };
        }
        let known = self.nodes.remove(&node);
        let knew = known.as_ref().and_then(|entry| entry.introduction.revoked);
        let mut clock = known.map(|entry| entry.clock).unwrap_or_default();
        clock.hear(sent_at_ms, heard.clock_ms);
        self.nodes.insert(node, Entry { introduction, heard_at: heard.now, clock });
        News { is_itself, revoked: revoked.filter(|_| knew.is_none()) }
    }

    /// The most that one of them knows to be revoked.
    pub(super) fn revoked_max(&self) -> usize {
        self.nodes.values().filter_map(|entry| entry.introduction.revoked).max().unwrap_or(0)
    }

    /// The clock that differs most from this node's; none while all agree.
    pub(super) fn wrong_clock(&self) -> Option<WrongClock> {
        let wrong = self.nodes.values().filter(|entry| entry.clock.is_wrong());
        let worst = wrong.max_by_key(|entry| entry.clock.ahead_ms().unsigned_abs())?;
        let (node, ahead_ms) = (worst.introduction.name.clone(), worst.clock.ahead_ms());
        Some(WrongClock { node, ahead_ms })
    }

    /// Whether a wrong clock is news again; then it is told.
    pub(super) fn is_time_to_tell(&mut self, now: Instant) -> bool {
        let is_time = self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY);
        if is_time {
            self.told_at = Some(now);
        }
        is_time
    }

    /// The names of the living nodes of another layout.
    pub(super) fn of_other_layout(&mut self, layout: u32, now: Instant) -> Vec<String> {
        self.forget(now);
        let is_other = |entry: &&Entry| entry.introduction.layout != Some(layout);
        let others = self.nodes.values().filter(is_other);
        let mut names: Vec<_> = others.map(|entry| entry.introduction.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Whether it is news that these are of another layout; then it is told.
    pub(super) fn is_news(&mut self, of_other_layout: &[String]) -> bool {
        let is_known = |name: &String| self.told_layouts.contains(name);
        let is_news = !of_other_layout.iter().all(is_known);
        of_other_layout.clone_into(&mut self.told_layouts);
        is_news
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
        let (name, version) = (name.to_owned(), "1".to_owned());
        Introduction { name, version, revoked: None, layout: Some(2) }
    }

    fn at(now: Instant) -> Moment {
        Moment { now, clock_ms: 100_000 }
    }

    #[test]
    fn nodes_live_while_they_are_heard() {
        let mut register = Register::default();
        let (one, two, start) = (NodeId::new(1), NodeId::new(2), Instant::now());
        assert!(register.hear(one, named("a"), 100_000, at(start)).is_itself);
        assert!(register.hear(two, named("b"), 100_000, at(start)).is_itself);
        let later = start + FORGOTTEN_AFTER - HEARTBEAT;
        assert!(!register.hear(one, named("a"), 100_000, at(later)).is_itself);
        assert_eq!(register.living(later).len(), 2);
        let last = start + FORGOTTEN_AFTER;
        assert_eq!(register.living(last), [(one, "a".to_owned())]);
        register.leave(one);
        assert!(register.living(last).is_empty());
    }

    #[test]
    fn what_a_node_knows_is_news_once() {
        let (mut register, now) = (Register::default(), Instant::now());
        let mut hear = |node, revoked| {
            let introduction = Introduction { revoked, ..named("n") };
            register.hear(NodeId::new(node), introduction, 100_000, at(now)).revoked
        };
        assert_eq!([hear(1, None), hear(1, Some(3)), hear(1, Some(4))], [None, Some(3), None]);
        assert_eq!(hear(2, Some(2)), Some(2));
        assert_eq!(register.revoked_max(), 4);
    }

    #[test]
    fn nodes_of_another_layout_are_news_when_they_come() {
        let (mut register, now) = (Register::default(), Instant::now());
        for (node, name, layout) in [(1, "c", Some(1)), (2, "b", Some(2)), (3, "a", None)] {
            let introduction = Introduction { layout, ..named(name) };
            register.hear(NodeId::new(node), introduction, 100_000, at(now));
        }
        let others = register.of_other_layout(2, now);
        assert_eq!(others, ["a", "c"]);
        assert_eq!([register.is_news(&others), register.is_news(&others)], [true, false]);
        register.leave(NodeId::new(1));
        let others = register.of_other_layout(2, now);
        assert_eq!((others.len(), register.is_news(&others)), (1, false));
        let later = now + FORGOTTEN_AFTER;
        assert!(register.of_other_layout(2, later).is_empty());
        assert!(!register.is_news(&[]) && register.is_news(&others), "it came back");
    }

    #[test]
    fn the_clock_that_is_most_wrong_is_known_while_its_node_is() {
        let (mut register, now) = (Register::default(), Instant::now());
        for (node, name, sent_at_ms) in [(1, "a", 100_200), (2, "b", 40_000), (3, "c", 110_000)] {
            assert_eq!(register.wrong_clock(), None);
            for _ in 0..2 {
                register.hear(NodeId::new(node), named(name), sent_at_ms, at(now));
            }
            if node == 2 {
                let wrong = WrongClock { node: "b".to_owned(), ahead_ms: -60_000 };
                assert_eq!(register.wrong_clock(), Some(wrong));
                register.leave(NodeId::new(node));
            }
        }
        assert_eq!(register.wrong_clock().unwrap().ahead_ms, 10_000);
        assert!(register.is_time_to_tell(now) && !register.is_time_to_tell(now));
        assert!(register.is_time_to_tell(now + TELL_EVERY));
    }

    #[test]
    fn there_are_no_more_nodes_than_can_be() {
        let mut register = Register::default();
        let now = Instant::now();
        for number in 0..NODES_MAX as u64 + 9 {
            register.hear(NodeId::new(number), named("n"), 100_000, at(now));
        }
        assert_eq!(register.living(now).len(), NODES_MAX);
    }
}
