//! Every metric of a node, by name and handle. Labels come from closed sets only, never from
//! clients.
//!
//! What a delivery costs is counted on the shard in plain integers and added here once per turn.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::{error::Disconnect, limits::Scope};

/// The handles. Cheap to clone; clones count into the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Publishes taken from clients and handed to the broker.
    pub publications_in: Counter,
    /// Publications that came back from the broker, once per shard that wanted them.
    pub publications_out: Counter,
    /// Publications handed to a connection, one for each.
    pub deliveries: Counter,
    /// Bytes read from WebSocket connections.
    pub received_bytes: Counter,
    /// Bytes written to WebSocket connections.
    pub sent_bytes: Counter,
    /// Bytes that sockets would not take yet.
    pub backlog_bytes: Gauge,
    /// Bytes kept for single clients: unread answers, and messages that are not handled yet.
    pub private_bytes: Gauge,
    /// Bytes of memory used, by the bound that is nearest to being reached ...
    pub memory_bytes: Gauge,
    /// ... and that bound.
    pub memory_limit_bytes: Gauge,
    /// Sockets that have no 101 yet.
    pub handshakes: Gauge,
    /// Addresses and networks whose connections are counted.
    pub addresses: Gauge,
    /// Users of the connections of a shard, of all shards.
    pub users: Gauge,
    /// Questions of clients that are not answered yet, beside those that are answered at once.
    pub inquiries: Gauge,
    /// Seconds from taking a turn out of the inbox to its last write.
    pub fan_out_seconds: Histogram,
    /// Upgrades answered with another status than 101, by reason.
    pub upgrades_refused: Family<RefusalLabel, Counter>,
    /// Connections that were refused for how they began or for where they came from.
    pub connections_refused: Family<RefusalLabel, Counter>,
    /// Silent sockets without a 101 that were closed for others, by what was full.
    pub handshakes_evicted: Family<RefusalLabel, Counter>,
    /// What was put off or refused since it was done too often.
    pub rate_limited: Family<RateLabel, Counter>,
    /// Calls of the HTTP API, by method and how they ended.
    pub api_calls: Family<ApiLabel, Counter>,
    /// Failed accepts, which are retried after a pause.
    pub accept_errors: Counter,
    /// Connections whose task panicked; a bug of ours each.
    pub panics: Counter,
    /// By how many seconds the clock of another node is ahead of this node's, of the one that
    /// differs most; 0 while all agree.
    pub clock_difference_seconds: Gauge<f64, AtomicU64>,
    /// Nodes that live and keep in another layout what nodes share.
    pub nodes_of_other_layout: Gauge,
}

/// The label of what was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
pub struct RefusalLabel {
    /// One of a closed set of words.
    pub reason: &'static str,
}

/// The labels of what was done too often.
#[derive(Clone, Debug, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
pub struct RateLabel {
    /// What was done: one of a closed set of words.
    pub kind: &'static str,
    /// Whose bound it was: one of a closed set of words.
    pub scope: &'static str,
}

/// The labels of a call of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
pub struct ApiLabel {
    /// The method's name; "" for requests that were refused before they named one.
    pub method: &'static str,
    /// 0 when the call was done, else the code of its error, or the status of the refusal.
    pub code: u32,
}

impl Metrics {
    /// Something was done too often. `kind` and `scope` are of closed sets: constants.
    pub fn count_limited(&self, kind: &'static str, scope: Scope) {
        self.rate_limited.get_or_create(&RateLabel { kind, scope: scope.label() }).inc();
    }
}

/// What one shard's connections amount to. Changed and read under one lock, so that at every scrape
/// `accepted = active + closed`.
#[derive(Debug, Default)]
pub struct Ledger {
    counts: Mutex<Counts>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    accepted: u64,
    active: i64,
    closed: [u64; Disconnect::ALL.len()],
    subscriptions: i64,
}

impl Ledger {
    /// A connection got its 101.
    pub fn open(&self) {
        let mut counts = self.counts.lock();
        counts.accepted += 1;
        counts.active += 1;
    }

    /// A connection ended.
    pub fn close(&self, why: Disconnect) {
        let mut counts = self.counts.lock();
        counts.active -= 1;
        counts.closed[why as usize] += 1;
    }

    /// The shard's hub holds this many subscriptions now.
    pub fn subscriptions(&self, count: usize) {
        self.counts.lock().subscriptions = i64::try_from(count).unwrap_or(i64::MAX);
    }
}

impl Metrics {
    /// Registers everything. `ledgers` are those of the shards; the counts, of channels and of
    /// members in presence, are asked at every scrape.
    #[must_use]
    pub fn register(
        registry: &mut Registry,
        ledgers: Vec<Arc<Ledger>>,
        channel_count: impl Fn() -> usize + Send + Sync + 'static,
        member_count: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Self {
        let metrics = Self::new();
        metrics.describe(registry);
        metrics.describe_tables(registry);
        registry.register_collector(Box::new(Totals { ledgers, channel_count, member_count }));
        metrics
    }

    fn new() -> Self {
        Self {
            publications_in: Counter::default(),
            publications_out: Counter::default(),
            deliveries: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            backlog_bytes: Gauge::default(),
            private_bytes: Gauge::default(),
            memory_bytes: Gauge::default(),
            memory_limit_bytes: Gauge::default(),
            handshakes: Gauge::default(),
            addresses: Gauge::default(),
            users: Gauge::default(),
            inquiries: Gauge::default(),
            fan_out_seconds: Histogram::new(FAN_OUT_SECONDS),
            upgrades_refused: Family::default(),
            connections_refused: Family::default(),
            handshakes_evicted: Family::default(),
            rate_limited: Family::default(),
            api_calls: Family::default(),
            accept_errors: Counter::default(),
            panics: Counter::default(),
            clock_difference_seconds: Gauge::default(),
            nodes_of_other_layout: Gauge::default(),
        }
    }

    /// Says what each is.
    fn describe(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("publications_in", "Publishes taken from clients", m.publications_in);
        registry.register(
            "publications_out",
            "Publications returned by the broker, once per shard that wanted them",
            m.publications_out,
        );
        registry.register("deliveries", "Publications handed to a connection", m.deliveries);
        registry.register("received_bytes", "Bytes read from connections", m.received_bytes);
        registry.register("sent_bytes", "Bytes written to connections", m.sent_bytes);
        registry.register(
            "backlog_bytes",
            "Bytes that sockets would not take yet",
            m.backlog_bytes,
        );
        registry.register(
            "private_bytes",
            "Bytes kept for single clients: unread answers, and messages not handled yet",
            m.private_bytes,
        );
        registry.register(
            "memory_bytes",
            "Bytes of memory used, by the bound that is nearest to being reached",
            m.memory_bytes,
        );
        registry.register("memory_limit_bytes", "That bound", m.memory_limit_bytes);
        registry.register("fan_out_seconds", "Time from turn to last write", m.fan_out_seconds);
        registry.register("upgrades_refused", "Upgrades not answered with 101", m.upgrades_refused);
        registry.register(
            "connections_refused",
            "Connections refused for how they began or where they came from",
            m.connections_refused,
        );
        registry.register(
            "handshakes_evicted",
            "Silent sockets without a 101 that were closed for others",
            m.handshakes_evicted,
        );
        registry.register(
            "rate_limited",
            "What was put off or refused since it was done too often",
            m.rate_limited,
        );
        registry.register("api_calls", "Calls of the HTTP API, by code of error", m.api_calls);
        registry.register(
            "accept_errors",
            "Failed accepts, retried after a pause",
            m.accept_errors,
        );
        registry.register("panics", "Connections ended by a bug in the server", m.panics);
        registry.register(
            "clock_difference_seconds",
            "By how much the clock of another node is ahead of this node's",
            m.clock_difference_seconds,
        );
        registry.register(
            "nodes_of_other_layout",
            "Nodes that live and keep in another layout what nodes share",
            m.nodes_of_other_layout,
        );
    }

    /// Says what is zero when no client is left.
    fn describe_tables(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("handshakes", "Sockets that have no 101 yet", m.handshakes);
        registry.register("addresses", "Addresses whose connections are counted", m.addresses);
        registry.register("users", "Users of each shard's connections", m.users);
        registry.register("inquiries", "Questions of clients not answered yet", m.inquiries);
    }
}

/// The page for `/metrics`, in the OpenMetrics text format.
#[must_use]
pub fn page(registry: &Registry) -> String {
    let mut page = String::new();
    text::encode(&mut page, registry).expect("a string takes all that is written to it");
    page
}

/// Sums the shards' ledgers at each scrape.
struct Totals<C, M> {
    ledgers: Vec<Arc<Ledger>>,
    channel_count: C,
    member_count: M,
}

impl<C, M> Collector for Totals<C, M>
where
    C: Fn() -> usize + Send + Sync + 'static,
    M: Fn() -> usize + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.sum();
        let mut gauge = |name, help, value: i64| {
            let gauge = ConstGauge::new(value);
            let described = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode(described)
        };
        gauge("connections_active", "Connections open now", counts.active)?;
        gauge("subscriptions", "Subscriptions of all connections", counts.subscriptions)?;
        let channels = i64::try_from((self.channel_count)()).unwrap_or(i64::MAX);
        gauge("channels", "Channels this node is subscribed to", channels)?;
        let members = i64::try_from((self.member_count)()).unwrap_or(i64::MAX);
        gauge("members", "Subscribers of this node whom presence shows", members)?;

        let accepted = ConstCounter::new(counts.accepted);
        let help = "Connections that got their 101";
        accepted.encode(encoder.encode_descriptor(
            "connections_accepted",
            help,
            None,
            MetricType::Counter,
        )?)?;

        let help = "Connections that ended, by close code and reason";
        let mut closed =
            encoder.encode_descriptor("connections_closed", help, None, MetricType::Counter)?;
        for why in Disconnect::ALL {
            let counter = ConstCounter::new(counts.closed[why as usize]);
            let labels = [("code", why.code().to_string()), ("reason", why.label().to_owned())];
            counter.encode(closed.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl<C, M> Totals<C, M> {
    fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        for ledger in &self.ledgers {
            let counts = ledger.counts.lock().clone();
            sum.accepted += counts.accepted;
            sum.active += counts.active;
            sum.subscriptions += counts.subscriptions;
            for (total, closed) in sum.closed.iter_mut().zip(counts.closed) {
                *total += closed;
            }
        }
        sum
    }
}

impl<C, M> fmt::Debug for Totals<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Totals").field("ledgers", &self.ledgers).finish_non_exhaustive()
    }
}

/// From one small write to a fan-out that keeps a shard busy for a second.
const FAN_OUT_SECONDS: [f64; 10] =
    [0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_is_active_plus_closed() {
        let ledgers: Vec<_> = (0..2).map(|_| Arc::new(Ledger::default())).collect();
        let mut registry = Registry::with_prefix("dunlin");
        let metrics = Metrics::register(&mut registry, ledgers.clone(), || 7, || 8);
        for _ in 0..3 {
            ledgers[0].open();
            ledgers[1].open();
        }
        ledgers[0].close(Disconnect::SlowReader);
        metrics.deliveries.inc_by(5);

        let page = page(&registry);
        for line in [
            "dunlin_connections_accepted_total 6",
            "dunlin_connections_active 5",
            "dunlin_connections_closed_total{code=\"1013\",reason=\"slow_reader\"} 1",
            "dunlin_connections_closed_total{code=\"1002\",reason=\"protocol_error\"} 0",
            "dunlin_channels 7",
            "dunlin_members 8",
            "dunlin_deliveries_total 5",
        ] {
            assert!(page.lines().any(|have| have == line), "{line} is not in\n{page}");
        }
    }
}
