//! What the configuration's limits are for each part of a node.

use std::{sync::Arc, thread::available_parallelism};

use dunlin_core::{
    ids::ShardId,
    limits::{Limits, Rate},
    metrics::{Metrics, RefusalLabel},
};

use crate::{
    config::{Config, LimitsConfig},
    front::{
        crowd::AddressBounds,
        door::{Bounds, Door, Evicted},
    },
};

/// The door of one listener: each has places of its own.
pub(crate) fn door(limits: &LimitsConfig, metrics: &Metrics) -> Arc<Door> {
    let evicted = |reason| {
        let label = RefusalLabel { reason };
        metrics.handshakes_evicted.get_or_create(&label).clone()
    };
    let per_address = match limits.address_handshakes {
        0 => limits.handshakes,
        bound => bound,
    };
    let bounds = Bounds { places: limits.handshakes, per_address };
    let evicted = Evicted { full: evicted("full"), address: evicted("address_full") };
    Door::new(bounds, evicted, metrics.handshakes.clone())
}

pub(crate) fn address_bounds(config: &Config) -> AddressBounds {
    let (limits, rates) = (&config.limits, &config.rate_limits);
    AddressBounds {
        connections: limits.address_connections,
        connect_rate: saturated(limits.address_connect_rate),
        connect_burst: saturated(limits.address_connect_burst),
        rates: rates.address.rates(),
        bad_tokens: rates.bad_tokens,
        bad_keys: rates.bad_keys,
    }
}

/// Each cache takes a quarter of the memory at most that there may be.
pub(crate) fn limits(config: &Config, connections: usize, memory_bytes: Option<u64>) -> Limits {
    let limits = &config.limits;
    let cache_bytes = memory_bytes.and_then(|bytes| usize::try_from(bytes / 4).ok());
    let cache = |name, bytes: usize| match cache_bytes {
        Some(quarter) if quarter < bytes => {
            tracing::info!(limit = name, bytes = quarter, "a cache takes a quarter of the memory");
            quarter
        }
        _ => bytes,
    };
    Limits {
        message_bytes: limits.message_bytes,
        inflate_ratio: if_any(saturated(limits.inflate_ratio)),
        message_fragments: saturated(limits.message_fragments),
        message_age: limits.message_age,
        backlog_bytes: limits.backlog_bytes,
        private_bytes: limits.private_bytes / shard_count(config),
        backlog_age: limits.backlog_age,
        connections,
        inbox_publications: limits.inbox_publications,
        inbox_bytes: limits.inbox_bytes,
        ring_bytes: cache("ring_bytes", limits.ring_bytes),
        history_bytes: cache("history_bytes", limits.history_bytes),
        control_frames: Rate {
            per_second: saturated(limits.control_rate),
            burst: saturated(limits.control_burst),
        },
    }
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Where 0 stands for any number.
fn if_any(bound: u32) -> u32 {
    if bound == 0 { u32::MAX } else { bound }
}

pub(crate) fn shard_count(config: &Config) -> usize {
    let cores = || available_parallelism().map_or(1, usize::from).min(SHARDS_MAX);
    if config.shards == 0 { cores() } else { config.shards }
}

/// Most shards: there is one more place, for what nodes tell one another.
pub(crate) const SHARDS_MAX: usize = ShardId::MAX - 1;
