//! A flock: nodes that share their channels. One with the memory broker, or several over Redis.

use super::{Client, Node, NodeCommand, Redis};

pub(crate) struct Flock {
    pub(crate) nodes: Vec<Node>,
    /// Absent with the memory broker.
    pub(crate) redis: Option<Redis>,
}

impl Flock {
    /// Runs `scenario` with each broker, and checks each time that nothing is left of its clients.
    pub(crate) fn each(settings: &[&str], scenario: impl Fn(&Self)) {
        for flock in [Self::memory(settings), Self::redis(2, settings)] {
            let files: Vec<_> = flock.nodes.iter().map(Node::open_files).collect();
            scenario(&flock);
            flock.check_empty(&files);
        }
    }

    /// One node with two shards and the memory broker.
    pub(crate) fn memory(settings: &[&str]) -> Self {
        let node = NodeCommand::new().set(&["shards=2"]).set(settings).start();
        Self { nodes: vec![node], redis: None }
    }

    /// `count` nodes with two shards each over a Redis of their own.
    pub(crate) fn redis(count: usize, settings: &[&str]) -> Self {
        let redis = Redis::start();
        let url = format!("redis.url={}", redis.url());
        let start = |_| NodeCommand::new().set(&["shards=2", &url]).set(settings).start();
        Self { nodes: (0..count).map(start).collect(), redis: Some(redis) }
    }

    /// The nodes by turns.
    pub(crate) fn node(&self, turn: usize) -> &Node {
        &self.nodes[turn % self.nodes.len()]
    }

    /// Joins `channel` as many times, on the nodes by turns.
    pub(crate) fn join(&self, channel: &str, count: usize) -> Vec<Client> {
        (0..count).map(|turn| self.node(turn).join(channel)).collect()
    }

    /// Waits until nothing is left of any client; `open_files` of each node included.
    fn check_empty(&self, open_files: &[usize]) {
        for (node, before) in self.nodes.iter().zip(open_files) {
            node.wait_until_empty();
            super::wait_until("all files are closed", || node.open_files() <= *before);
        }
    }
}
