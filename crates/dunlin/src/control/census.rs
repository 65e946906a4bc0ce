//! What this node answers when it is asked.

use std::{cmp::Reverse, collections::HashMap, mem, sync::Arc};

use dunlin_core::{
    channel::ChannelName,
    control::{ConnectionReport, Measure, NodeReport, Part, Question, TopReport},
};

use super::{CHANNELS, Control};
use crate::shard::Census;

/// Entries of one part of an answer, and bytes of their names: a message of some ten KiB, and far
/// below what one may have.
const ENTRIES_PER_PART: usize = 256;
const BYTES_PER_PART: usize = 64 << 10;

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
            all.top.extend(census.top);
        }
        match question {
            Question::Node {} => vec![Part::Node(self.report(&all))],
            Question::Channels { .. } => {
                let channels: Vec<_> = summed(all.channels).into_iter().collect();
                parts(channels, |(name, _)| name.as_str().len(), Part::Channels)
            }
            Question::Connections { .. } => {
                let bytes = |one: &ConnectionReport| {
                    let channels = one.channels.iter().map(|name| name.as_str().len());
                    one.client.len() + one.user.len() + channels.sum::<usize>()
                };
                parts(all.connections, bytes, Part::Connections)
            }
            Question::Top { by, limit } => {
                let bytes = |one: &TopReport| one.client.len() + one.user.len();
                parts(top(all.top, *by, *limit), bytes, Part::Top)
            }
        }
    }

    fn report(&self, all: &Census) -> NodeReport {
        NodeReport {
            name: self.parts.node_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clients: all.clients,
            users: all.users.len(),
            subscriptions: all.subscriptions,
            channels: self.parts.node.channel_count().saturating_sub(CHANNELS),
            uptime_s: self.started_at.elapsed().as_secs(),
        }
    }
}

/// Those that have most of something, the first one first.
fn top(mut connections: Vec<TopReport>, by: Measure, limit: usize) -> Vec<TopReport> {
    connections.sort_by_key(|one| Reverse(one.by(by)));
    connections.truncate(limit);
    connections
}

/// Each channel once, with its subscribers on all shards.
fn summed(channels: Vec<(ChannelName, usize)>) -> HashMap<ChannelName, usize> {
    let mut sums = HashMap::new();
    for (name, count) in channels {
        *sums.entry(name).or_default() += count;
    }
    sums
}

/// One part at least.
fn parts<T>(
    entries: Vec<T>,
    bytes: impl Fn(&T) -> usize,
    part: impl Fn(Vec<T>) -> Part,
) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut open, mut open_bytes) = (Vec::new(), 0);
    for entry in entries {
        let bytes = bytes(&entry);
        if open.len() >= ENTRIES_PER_PART || open_bytes + bytes > BYTES_PER_PART && !open.is_empty()
        {
            parts.push(part(mem::take(&mut open)));
            open_bytes = 0;
        }
        open_bytes += bytes;
        open.push(entry);
    }
    parts.push(part(open));
    parts
}
