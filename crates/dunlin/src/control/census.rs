//! What this node answers when it is asked.

use std::{collections::HashMap, sync::Arc};

use dunlin_core::{
    channel::ChannelName,
    control::{NodeReport, Part, Question},
};

use super::{CHANNELS, Control};
use crate::shard::Census;

/// Entries of one part of an answer: a message of some ten KiB.
const ENTRIES_PER_PART: usize = 256;

impl Control {
    /// This node's answer, in parts; one at least.
    pub(super) async fn count(&self, question: &Question) -> Vec<Part> {
        let shared = Arc::new(question.clone());
        let mut all = Census::default();
        for shard in &self.parts.shards {
            let census = shard.census(Arc::clone(&shared)).await;
            all.clients += census.clients;
            all.subscriptions += census.subscriptions;
            all.users.extend(census.users);
            all.channels.extend(census.channels);
            all.connections.extend(census.connections);
        }
        match question {
            Question::Node {} => vec![Part::Node(self.report(&all))],
            Question::Channels { .. } => {
                let channels: Vec<_> = summed(all.channels).into_iter().collect();
                parts(&channels, Part::Channels)
            }
            Question::Connections { .. } => parts(&all.connections, Part::Connections),
        }
    }

    fn report(&self, all: &Census) -> NodeReport {
        NodeReport {
            name: self.introduction.name.clone(),
            version: self.introduction.version.clone(),
            clients: all.clients,
            users: all.users.len(),
            subscriptions: all.subscriptions,
            channels: self.parts.node.channel_count().saturating_sub(CHANNELS),
            uptime_s: self.started_at.elapsed().as_secs(),
        }
    }
}

/// Each channel once, with its subscribers on all shards.
fn summed(channels: Vec<(ChannelName, usize)>) -> HashMap<ChannelName, usize> {
    let mut sums = HashMap::new();
    for (name, count) in channels {
        *sums.entry(name).or_default() += count;
    }
    sums
}

fn parts<T: Clone>(entries: &[T], part: impl Fn(Vec<T>) -> Part) -> Vec<Part> {
    if entries.is_empty() {
        return vec![part(Vec::new())];
    }
    entries.chunks(ENTRIES_PER_PART).map(|chunk| part(chunk.to_vec())).collect()
}
