//! The choice of the broker, and how to start and leave it.

use std::{future::pending, sync::Arc};

use dunlin_core::{
    broker::{SharedBroker, memory::MemoryBroker},
    interest::Interest,
    limits::Limits,
    presence::{PresenceStore, SharedPresence, memory::MemoryPresence},
};
use dunlin_redis::{
    broker::{RedisBroker, Settings},
    envelope::Format,
    metrics::LinkMetrics,
    presence::{LEASE, RedisPresence},
    queue::QueueBounds,
};
use prometheus_client::registry::Registry;

use crate::config::{Problems, RedisConfig, RedisMessages};

/// The broker of this node.
pub(crate) enum ChosenBroker {
    Memory(Arc<MemoryBroker>),
    Redis(Arc<RedisBroker>, Arc<RedisPresence>),
}

impl ChosenBroker {
    /// Starts the broker that `redis.url` names, or the memory broker without one.
    ///
    /// # Errors
    /// When Redis cannot be reached or used: a sentence that says what and where.
    pub(crate) async fn start(
        config: &RedisConfig,
        limits: &Limits,
        interest: &Arc<Interest>,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let interest = Arc::clone(interest);
        let Some(settings) = redis_settings(config, limits.message_bytes)? else {
            let broker = MemoryBroker::new(interest).with_bytes_max(limits.history_bytes);
            return Ok(Self::Memory(Arc::new(broker)));
        };
        let metrics = LinkMetrics::register(registry);
        let broker = RedisBroker::start(settings, interest, metrics).await?;
        let presence = RedisPresence::start(Arc::clone(&broker), LEASE);
        Ok(Self::Redis(broker, presence))
    }

    /// The broker as everyone on the node shares it.
    pub(crate) fn share(&self) -> SharedBroker {
        match self {
            Self::Memory(broker) => Arc::clone(broker) as SharedBroker,
            Self::Redis(broker, _) => Arc::clone(broker) as SharedBroker,
        }
    }

    /// Whether there can be other nodes.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(..))
    }

    /// Who is in which channel, as everyone on the node shares it.
    pub(crate) fn presence(&self) -> SharedPresence {
        match self {
            Self::Memory(_) => Arc::new(MemoryPresence::new()),
            Self::Redis(_, presence) => Arc::clone(presence) as SharedPresence,
        }
    }

    /// Waits until the broker has died, which is a bug of ours; a lost link comes back by itself.
    pub(crate) async fn died(&self) {
        match self {
            Self::Memory(_) => pending().await,
            Self::Redis(broker, _) => broker.died().await,
        }
    }

    /// Sends what is still on its way and takes leave of the other nodes.
    pub(crate) async fn shutdown(&self) {
        if let Self::Redis(broker, presence) = self {
            // A Redis that is away learns it by the end of the lease.
            let _ = presence.leave().await;
            broker.shutdown().await;
        }
    }
}

fn redis_settings(
    config: &RedisConfig,
    message_bytes: usize,
) -> Result<Option<Settings>, Problems> {
    let Some(urls) = &config.url else { return Ok(None) };
    let settings = Settings::new(urls.first().clone());
    Ok(Some(Settings {
        urls: urls.parsed(),
        channel_prefix: config.channel_prefix.clone(),
        authorities_pem: config.authorities_pem()?,
        start_wait: config.wait,
        queue: QueueBounds {
            publishes: config.queue_messages,
            bytes: config.queue_bytes,
            age: config.queue_age,
        },
        // What our own clients may publish must pass, whatever others may.
        message_bytes: settings.message_bytes.max(message_bytes),
        format: match config.messages {
            RedisMessages::Enveloped => Format::Enveloped,
            RedisMessages::Raw => Format::Raw,
        },
        ..settings
    }))
}
