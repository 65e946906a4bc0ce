//! Founds lanes, all alike but for their server and their share.

use std::sync::Arc;

use dunlin_core::interest::Interest;
use tokio::sync::watch;

use super::{
    Lane, company::Company, health::Health, line::Lines, probe_channel::ProbeChannel, review,
};
use crate::{
    envelope::Format,
    keys::Keys,
    link::dial::Dialer,
    metrics::LinkMetrics,
    publish::{Probe, PublishLink},
    queue::{Queue, QueueBounds},
    read::ReadLink,
    shares::Share,
    subscribe::{self, SubscribeLinks},
    tasks::Tasks,
};

/// See the module's text.
pub(crate) struct Founder {
    pub(crate) keys: Keys,
    pub(crate) format: Format,
    pub(crate) bounds: QueueBounds,
    /// The most channels of one subscribe link.
    pub(crate) link_channels_max: usize,
    pub(crate) interest: Arc<Interest>,
    pub(crate) metrics: LinkMetrics,
    /// Told of each read link that is made again.
    pub(crate) returns: watch::Sender<()>,
    pub(crate) tasks: Tasks,
}

impl Founder {
    /// Starts the tasks of a lane; they dial by themselves. `address` is what it is called in the
    /// log and in metrics, `place` which of how many it is, as in `1/3`: all nodes must see it so.
    pub(crate) fn found(
        &self,
        dialer: Dialer,
        address: Arc<str>,
        place: String,
        share: Share,
    ) -> Lane {
        let Self { keys, interest, metrics, tasks, .. } = self;
        let health = Arc::new(Health::new(address));
        metrics.add(Arc::clone(&health), share.clone());
        let probe_channel = ProbeChannel::new(keys.clone(), share.clone());
        let company = dialer.place().is_fixed().then(|| {
            let (address, node) = (Arc::clone(health.address()), probe_channel.id().to_owned());
            Arc::new(Company::new(address, keys.clone(), node))
        });
        let lines = Lines {
            dialer,
            health: Arc::clone(&health),
            company: company.clone(),
            metrics: metrics.clone(),
            stop: tasks.told_to_stop(),
        };
        let bounds = self.bounds.clone();
        let queue = Arc::new(Queue::new(bounds, Arc::clone(interest), metrics.clone()));
        let probe = Probe::new(probe_channel.clone(), place, company);
        let links = subscribe::Parts {
            lines: lines.clone(),
            interest: Arc::clone(interest),
            keys: keys.clone(),
            share: share.clone(),
            channels_max: self.link_channels_max,
            tasks: tasks.clone(),
        };
        let links = SubscribeLinks::start(links, probe_channel);
        let publish = PublishLink::new(
            lines.publish(),
            Arc::clone(&queue),
            Arc::clone(&links),
            Arc::clone(interest),
            keys.clone(),
            self.format,
            probe,
        );
        let (read, reader) = ReadLink::new(lines.read(ANSWER_BYTES), self.returns.clone());
        tasks.spawn(publish.run());
        tasks.spawn(read.run());
        tasks.spawn(review(Arc::clone(&health), Arc::clone(&links), lines.stop));
        Lane { share, links, queue, reader, health }
    }
}

/// The largest answer to a question: a whole history, all members of a channel.
const ANSWER_BYTES: usize = 256 << 20;
