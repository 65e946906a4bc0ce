//! What the Redis broker counts, and whether it is ready. Names and labels are closed sets.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use dunlin_core::error::{PublishError, PublishOutcome};
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

use crate::{lane::health::Health, shares::Share};

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
    /// Publications put back that were acknowledged and that a server lacked after a failover or a
    /// restart.
    pub publishes_restored: Counter,
    /// Channels that lost acknowledged publications in that way for good; subscribers are told.
    pub channels_lost: Counter,
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
    lanes: Arc<LaneReport>,
}

/// How long the last answered ping of a link took.
pub type RoundTripSeconds = Gauge<f64, AtomicU64>;

/// Which link of which lane a metric is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LinkLabel {
    /// The address of the lane's server.
    pub lane: String,
    /// `publish`, `subscribe` or `read`.
    pub link: &'static str,
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
        registry.register(
            "publishes_restored",
            "Publications put back that a server lacked",
            m.publishes_restored,
        );
        registry.register(
            "channels_lost",
            "Channels that lost publications for good",
            m.channels_lost,
        );
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
        registry.register_collector(Box::new(Shared(m.lanes)));
        metrics
    }

    /// One lane more, which is told of as long as it has anything.
    pub(crate) fn add(&self, lane: Arc<Health>, share: Share) {
        self.lanes.0.lock().push((lane, share));
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

/// Reads the health of every lane at each scrape, so that an outage counts while it lasts.
#[derive(Debug, Default)]
struct LaneReport(Mutex<Vec<(Arc<Health>, Share)>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: String,
}

impl Collector for Shared {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut lanes = self.0.0.lock().clone();
        lanes.retain(|(_, share)| share.first().is_some());
        let label = |lane: &Health| LaneLabel { lane: lane.address().to_string() };
        let help = "Whether the last probe of a lane came back";
        let mut ready = encoder.encode_descriptor("ready", help, None, MetricType::Gauge)?;
        for (lane, _) in &lanes {
            let gauge = ConstGauge::new(i64::from(lane.is_ready()));
            gauge.encode(ready.encode_family(&label(lane))?)?;
        }
        let help = "Time without a lane's server";
        let mut away =
            encoder.encode_descriptor("away_seconds", help, None, MetricType::Counter)?;
        for (lane, _) in &lanes {
            let counter = ConstCounter::new(lane.away().as_secs_f64());
            counter.encode(away.encode_family(&label(lane))?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Shared(Arc<LaneReport>);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shares::Shares;

    #[tokio::test(start_paused = true)]
    async fn each_lane_tells_how_it_is() {
        let mut registry = Registry::with_prefix("dunlin");
        let metrics = LinkMetrics::register(&mut registry);
        let shares = Shares::even(2);
        metrics.add(Arc::new(Health::new("redis://a:1".into())), shares.of(0));
        tokio::time::advance(Duration::from_secs(3)).await;
        metrics.add(Arc::new(Health::new("redis://b:2".into())), shares.of(1));
        metrics.add(Arc::new(Health::new("redis://idle:3".into())), shares.of(2));
        let page = dunlin_core::metrics::page(&registry);
        for line in [
            "dunlin_redis_ready{lane=\"redis://a:1\"} 0",
            "dunlin_redis_away_seconds_total{lane=\"redis://a:1\"} 3.0",
            "dunlin_redis_away_seconds_total{lane=\"redis://b:2\"} 0.0",
        ] {
            assert!(page.lines().any(|have| have == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("idle"), "nobody misses what has nothing to do");
    }
}
