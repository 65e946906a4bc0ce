//! What this node answers when it is asked.

use std::collections::{HashMap, HashSet};

use dunlin_core::{
    channel::ChannelName,
    control::{Glob, NodeReport, Part, Question},
};

use super::Control;
use crate::shard::Census;

/// Entries of one part of an answer: a message of some ten KiB.
const ENTRIES_PER_PART: usize = 256;

impl Control {
    /// This node's answer, in parts; one at least.
    pub(super) async fn count(&self, question: &Question) -> Vec<Part> {
        let mut all = Census::default();
        for shard in &self.parts.shards {
            let census = shard.census().await;
            all.clients += census.clients;
            all.subscriptions += census.subscriptions;
            all.users.extend(census.users);
            all.channels.extend(census.channels);
            all.connections.extend(census.connections);
        }
        match question {
            Question::Node {} => vec![Part::Node(self.report(&all))],
            Question::Channels { pattern } => {
                let channels: Vec<_> = matching(all.channels, pattern).into_iter().collect();
                parts(&channels, Part::Channels)
            }
            Question::Connections { user } => {
                let is_asked_for = |named: &str| user.as_ref().is_none_or(|user| **user == *named);
                all.connections.retain(|connection| is_asked_for(&connection.user));
                parts(&all.connections, Part::Connections)
            }
        }
    }

    fn report(&self, all: &Census) -> NodeReport {
        let channels: HashSet<_> = all.channels.iter().map(|(name, _)| name).collect();
        NodeReport {
            name: self.introduction.name.clone(),
            version: self.introduction.version.clone(),
            clients: all.clients,
            users: all.users.len(),
            subscriptions: all.subscriptions,
            channels: channels.len(),
            uptime_s: self.started_at.elapsed().as_secs(),
        }
    }
}

/// The channels of that pattern with their subscribers on all shards.
fn matching(channels: Vec<(ChannelName, usize)>, pattern: &Glob) -> HashMap<ChannelName, usize> {
    let mut sums = HashMap::new();
    for (name, count) in channels {
        if pattern.matches(name.as_str()) {
            *sums.entry(name).or_default() += count;
        }
    }
    sums
}

fn parts<T: Clone>(entries: &[T], part: impl Fn(Vec<T>) -> Part) -> Vec<Part> {
    if entries.is_empty() {
        return vec![part(Vec::new())];
    }
    entries.chunks(ENTRIES_PER_PART).map(|chunk| part(chunk.to_vec())).collect()
}
