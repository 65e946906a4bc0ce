//! The subscribe links of a lane. There is one, and from some number of channels on twice as many,
//! and so on: a server answers nobody while it ends a connection, for half a second if that has
//! 100,000 channels. Each link has its part of the lane's partitions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dunlin_core::{channel::ChannelName, interest::Interest};
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::{Orders, SubscribeLink};
use crate::{
    channels::Verb,
    keys::Keys,
    lane::{line::Lines, probe_channel::ProbeChannel},
    partition::Partition,
    shares::Share,
    tasks::Tasks,
};

/// See the module's text.
pub(crate) struct SubscribeLinks {
    /// Read to find a link and order something of it in one step, written to add links.
    links: RwLock<Vec<Arc<Orders>>>,
    count: Arc<AtomicUsize>,
    /// Told when a channel stands, on any link.
    stood: Arc<Notify>,
    parts: Parts,
}

/// What links are made of.
pub(crate) struct Parts {
    pub(crate) lines: Lines,
    pub(crate) interest: Arc<Interest>,
    pub(crate) keys: Keys,
    pub(crate) share: Share,
    /// The most channels of one link.
    pub(crate) channels_max: usize,
    pub(crate) tasks: Tasks,
}

/// The partitions of one link. Clones share what changes.
#[derive(Clone)]
pub(super) struct Part {
    share: Share,
    number: usize,
    count: Arc<AtomicUsize>,
}

impl Part {
    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        self.has_partition(Partition::of(channel))
    }

    pub(super) fn has_partition(&self, partition: Partition) -> bool {
        let count = self.count.load(Ordering::Acquire);
        number(partition, count) == self.number && self.share.has_partition(partition)
    }
}

fn number(partition: Partition, count: usize) -> usize {
    partition.place() % count
}

impl SubscribeLinks {
    /// Starts the first one, on which probes come back.
    pub(crate) fn start(parts: Parts, probe: ProbeChannel) -> Arc<Self> {
        let (links, stood) = (RwLock::default(), Arc::default());
        let count = Arc::new(AtomicUsize::new(1));
        let this = Self { links, count, stood, parts };
        this.links.write().push(this.start_link(0, Some(probe)));
        Arc::new(this)
    }

    fn start_link(&self, number: usize, probe: Option<ProbeChannel>) -> Arc<Orders> {
        let Parts { lines, interest, keys, share, tasks, .. } = &self.parts;
        let orders = Arc::new(Orders::new(Arc::clone(&self.stood)));
        let part = Part { share: share.clone(), number, count: Arc::clone(&self.count) };
        let line = lines.subscribe(number);
        let (interest, keys) = (Arc::clone(interest), keys.clone());
        let link = SubscribeLink::new(line, Arc::clone(&orders), interest, keys, part, probe);
        tasks.spawn(link.run());
        orders
    }

    /// Orders that a channel is subscribed to or not.
    pub(crate) fn order(&self, verb: Verb, channel: &ChannelName) {
        self.with(|| Partition::of(channel), |orders| orders.push(verb, channel.clone()));
    }

    /// The lane has this partition from now on.
    pub(crate) fn arrive(&self, partition: Partition) {
        self.with(|| partition, |orders| orders.push_arrive(partition));
    }

    /// And this one no more.
    pub(crate) fn leave(&self, partition: Partition) {
        self.with(|| partition, |orders| orders.push_leave(partition));
    }

    /// Whether what is published to a channel now reaches its subscribers on this node.
    pub(crate) fn stands(&self, channel: &ChannelName) -> bool {
        self.with(|| Partition::of(channel), |orders| orders.stands(channel))
    }

    /// The probe may have gone elsewhere.
    pub(crate) fn follow_probe(&self) {
        if let [first, ..] = &self.links.read()[..] {
            first.push_probe();
        }
    }

    fn with<T>(&self, partition: impl FnOnce() -> Partition, what: impl FnOnce(&Orders) -> T) -> T {
        let links = self.links.read();
        match &links[..] {
            [only] => what(only),
            links => what(&links[number(partition(), links.len())]),
        }
    }

    /// Waits until one more channel stands. For one waiter. Cancel-safe.
    pub(crate) async fn stood(&self) {
        self.stood.notified().await;
    }

    /// Adds as many links as there are if one of them has too many channels.
    pub(crate) fn grow(&self) {
        let is_full = |orders: &Arc<Orders>| orders.channels() > self.parts.channels_max;
        let is_time = |links: &[Arc<Orders>]| {
            links.iter().any(is_full) && links.iter().all(|orders| orders.is_settled())
        };
        if !is_time(&self.links.read()) {
            return;
        }
        let mut links = self.links.write();
        let (before, after) = (links.len(), links.len() * 2);
        if after > LINKS_MAX {
            return;
        }
        tracing::info!(
            links = after,
            "redis gets more subscribe links, for there are many channels"
        );
        self.count.store(after, Ordering::Release);
        for number in before..after {
            let link = self.start_link(number, None);
            links.push(link);
        }
        for partition in Partition::all().filter(|it| self.parts.share.has_partition(*it)) {
            let (old, new) = (number(partition, before), number(partition, after));
            if old != new {
                links[old].push_leave(partition);
                links[new].push_arrive(partition);
            }
        }
    }
}

/// Enough for millions of channels.
const LINKS_MAX: usize = 64;
