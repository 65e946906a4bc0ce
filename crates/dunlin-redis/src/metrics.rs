//! What the Redis broker counts, and whether it is ready. Names and labels are closed sets.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dunlin_core::{
    broker::BrokerStatus,
    error::{PublishError, PublishOutcome},
};
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use tokio::{sync::watch, time::Instant};

/// The handles of the broker's metrics. Cheap to clone; clones count into the same metrics.
#[derive(Clone, Debug, Default)]
pub struct LinkMetrics {
    /// Messages pushed by Redis.
    pub messages_in: Counter,
    /// Messages skipped because their envelope or size cannot be read.
    pub messages_skipped: Counter,
    /// Publishes that Redis accepted.
    pub publishes_accepted: Counter,
    /// Publishes refused because Redis was away too long, or too many waited for it.
    pub publishes_refused: Counter,
    /// Publishes sent whose answer never came.
    pub publishes_unknown: Counter,
    /// Publishes that Redis answered with an error.
    pub publishes_rejected: Counter,
    /// Publishes sent again after a loss, because Redis can tell whether they happened.
    pub publishes_repeated: Counter,
    /// Questions to the history or presence that Redis was away too long for.
    pub reads_lost: Counter,
    /// Subscriptions that Redis answered with an error.
    pub subscribes_refused: Counter,
    /// Subscriptions that Redis ended without being asked; each is made again.
    pub subscribes_ended: Counter,
    /// Links made again after a loss.
    pub reconnects: Family<LinkLabel, Counter>,
    /// How long the last answered ping took, in seconds.
    pub round_trip_seconds: Family<LinkLabel, RoundTripSeconds>,
    pub(crate) health: Arc<Health>,
}

/// How long the last answered ping of a link took.
pub type RoundTripSeconds = Gauge<f64, AtomicU64>;

/// Which of a node's links a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LinkLabel {
    /// `publish`, `subscribe` or `read`.
    pub link: &'static str,
}

impl LinkLabel {
    pub(crate) const PUBLISH: Self = Self { link: "publish" };
    pub(crate) const SUBSCRIBE: Self = Self { link: "subscribe" };
    pub(crate) const READ: Self = Self { link: "read" };
}

impl LinkMetrics {
    /// Registers everything under `redis_…`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = metrics.clone();
        let registry = registry.sub_registry_with_prefix("redis");
        registry.register("messages_in", "Messages pushed by Redis", m.messages_in);
        registry.register("messages_skipped", "Messages that cannot be read", m.messages_skipped);
        registry.register("publishes_accepted", "Publishes accepted", m.publishes_accepted);
        registry.register(
            "publishes_refused",
            "Publishes refused while Redis was away",
            m.publishes_refused,
        );
        registry.register("publishes_unknown", "Publishes never answered", m.publishes_unknown);
        registry.register(
            "publishes_rejected",
            "Publishes answered with an error",
            m.publishes_rejected,
        );
        registry.register("publishes_repeated", "Publishes sent again", m.publishes_repeated);
        registry.register("reads_lost", "Questions that Redis was away for", m.reads_lost);
        registry.register(
            "subscribes_refused",
            "Subscriptions answered with an error",
            m.subscribes_refused,
        );
        registry.register(
            "subscribes_ended",
            "Subscriptions that Redis ended unasked",
            m.subscribes_ended,
        );
        registry.register("reconnects", "Links made again after a loss", m.reconnects);
        registry.register(
            "round_trip_seconds",
            "How long the last answered ping took",
            m.round_trip_seconds,
        );
        registry.register_collector(Box::new(HealthReport(m.health)));
        metrics
    }

    /// Counts how a publish ended.
    pub(crate) fn count_outcome(&self, outcome: &PublishOutcome) {
        match outcome {
            Ok(_) => self.publishes_accepted.inc(),
            Err(PublishError::Unknown) => self.publishes_unknown.inc(),
            Err(PublishError::Refused) => self.publishes_refused.inc(),
            Err(PublishError::Rejected) => self.publishes_rejected.inc(),
        };
    }
}

/// Whether the links stand, and for how long they have not all stood.
#[derive(Debug)]
pub(crate) struct Health {
    /// Whether every wanted channel is subscribed to.
    subscribed: watch::Sender<bool>,
    /// Whether publishes flow.
    publishing: AtomicBool,
    /// Whether there is an answer to who asks for a history: without one nobody can be told where
    /// in a channel it is.
    reading: AtomicBool,
    away: Mutex<Away>,
}

#[derive(Debug)]
struct Away {
    total: Duration,
    since: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        let away = Mutex::new(Away { total: Duration::ZERO, since: None });
        let subscribed = watch::Sender::new(false);
        Self { subscribed, publishing: false.into(), reading: false.into(), away }
    }
}

impl Health {
    pub(crate) fn status(&self) -> BrokerStatus {
        let flows = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        if flows(&self.publishing) && flows(&self.reading) && *self.subscribed.borrow() {
            BrokerStatus::Ready
        } else {
            BrokerStatus::Lost
        }
    }

    pub(crate) fn set_subscribed(&self, is_subscribed: bool) {
        // Who watches takes every notice for a loss and a return.
        self.subscribed
            .send_if_modified(|was| std::mem::replace(was, is_subscribed) != is_subscribed);
        self.note_status();
    }

    pub(crate) fn set_publishing(&self, is_publishing: bool) {
        self.publishing.store(is_publishing, Ordering::Release);
        self.note_status();
    }

    pub(crate) fn set_reading(&self, is_reading: bool) {
        self.reading.store(is_reading, Ordering::Release);
        self.note_status();
    }

    /// Tells of each change of whether every wanted channel is subscribed to.
    pub(crate) fn watch_subscribed(&self) -> watch::Receiver<bool> {
        self.subscribed.subscribe()
    }

    fn note_status(&self) {
        let mut away = self.away.lock();
        match (self.status(), away.since) {
            (BrokerStatus::Lost, None) => away.since = Some(Instant::now()),
            (BrokerStatus::Ready, Some(since)) => {
                away.total += since.elapsed();
                away.since = None;
            }
            _ => {}
        }
    }

    fn away(&self) -> Duration {
        let away = self.away.lock();
        away.total + away.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Reads the health at each scrape, so that an outage counts while it lasts.
#[derive(Debug)]
struct HealthReport(Arc<Health>);

impl Collector for HealthReport {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ready = ConstGauge::new(i64::from(self.0.status() == BrokerStatus::Ready));
        let help = "Whether all links stand and publishes flow";
        ready.encode(encoder.encode_descriptor("ready", help, None, MetricType::Gauge)?)?;
        let away = ConstCounter::new(self.0.away().as_secs_f64());
        let help = "Time without Redis";
        away.encode(encoder.encode_descriptor("away_seconds", help, None, MetricType::Counter)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_without_redis_counts_while_it_lasts() {
        let mut registry = Registry::with_prefix("dunlin");
        let metrics = LinkMetrics::register(&mut registry);
        let check = |line: &str| {
            let page = dunlin_core::metrics::page(&registry);
            assert!(page.lines().any(|have| have == line), "{line} is not in\n{page}");
        };
        metrics.health.set_subscribed(true);
        metrics.health.set_publishing(true);
        metrics.health.set_reading(true);
        check("dunlin_redis_ready 1");
        metrics.health.set_subscribed(false);
        tokio::time::advance(Duration::from_secs(3)).await;
        check("dunlin_redis_ready 0");
        check("dunlin_redis_away_seconds_total 3.0");
        metrics.health.set_subscribed(true);
        tokio::time::advance(Duration::from_secs(3)).await;
        check("dunlin_redis_away_seconds_total 3.0");
    }
}
