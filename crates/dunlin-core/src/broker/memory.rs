//! The broker of a node that is alone: what is published here is delivered here, and kept here.

mod stream;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    slice,
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use smallvec::SmallVec;

use self::stream::{Answers, Stream};
use crate::{
    broker::{Broker, BrokerStatus, History, HistoryQuery, Publish, Recovery, ReplyTo, Room},
    channel::ChannelName,
    error::{BrokerLost, HistoryError, PublishOutcome},
    interest::{Acknowledgement, Interest},
    namespace::Retention,
    position::Position,
    publication::Publication,
};

/// Carries publications within one node. The lock of a channel's partition makes the order of those
/// that are kept, the lock of its partition in [`Interest`] that of all others.
pub struct MemoryBroker {
    interest: Arc<Interest>,
    partitions: Box<[Mutex<Partition>]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Partition {
    streams: HashMap<ChannelName, Stream>,
    answers: Answers,
    /// Calls since what is over was thrown away.
    calls: usize,
}

/// A power of two well above the number of threads that meet here.
const PARTITIONS: usize = 64;

/// Calls after which a partition throws away what is over.
const CALLS_PER_SWEEP: usize = 4096;

impl MemoryBroker {
    /// A broker that delivers through `interest`.
    #[must_use]
    pub fn new(interest: Arc<Interest>) -> Self {
        let partitions = (0..PARTITIONS).map(|_| Mutex::default()).collect();
        Self { interest, partitions, hasher: RandomState::new() }
    }

    /// Publishes what is kept, or happens only on terms.
    fn publish_one(&self, publish: Publish) -> PublishOutcome {
        let Publish { publication, retention, terms } = publish;
        let terms = terms.unwrap_or_default();
        let channel = publication.channel().clone();
        let now = Instant::now();
        let mut partition = self.partition(&channel).lock();
        partition.sweep(now);
        if let Some(answer) = partition.answers.get(&channel, &terms.idempotency_key, now) {
            return Ok(answer);
        }
        let answer = match retention {
            None => {
                self.deliver(&Arc::new(publication));
                None
            }
            Some(retention) => {
                let stream = partition.stream(&channel, retention, now);
                if stream.takes(&terms) {
                    // Under the lock: delivered in the order in which it is kept.
                    self.deliver(&stream.append(publication, retention, now));
                }
                Some(stream.top())
            }
        };
        partition.answers.keep(channel, terms.idempotency_key, answer, now);
        Ok(answer)
    }

    fn deliver(&self, publication: &Arc<Publication>) {
        self.interest.deliver(publication.channel(), slice::from_ref(publication));
    }

    /// Runs `look` on the channel's stream as it is now.
    fn look<T>(
        &self,
        channel: &ChannelName,
        retention: Retention,
        look: impl FnOnce(&Stream) -> T,
    ) -> T {
        let now = Instant::now();
        let mut partition = self.partition(channel).lock();
        partition.sweep(now);
        look(partition.stream(channel, retention, now))
    }

    fn partition(&self, channel: &ChannelName) -> &Mutex<Partition> {
        &self.partitions[self.hasher.hash_one(channel) as usize % PARTITIONS]
    }
}

impl Partition {
    /// The channel's stream without what is over; a new one with a new epoch if there is none.
    fn stream(&mut self, channel: &ChannelName, retention: Retention, now: Instant) -> &mut Stream {
        let new = || Stream::new(RandomState::new().hash_one(0), retention, now);
        let stream = self.streams.entry(channel.clone()).or_insert_with(new);
        if stream.is_over(now) {
            *stream = new();
        }
        stream.expire(now);
        stream.note_use(retention, now);
        stream
    }

    fn sweep(&mut self, now: Instant) {
        self.calls += 1;
        if self.calls.is_multiple_of(CALLS_PER_SWEEP) {
            self.streams.retain(|_, stream| {
                stream.expire(now);
                !stream.is_over(now)
            });
        }
        self.answers.expire(now);
    }
}

/// Publications of one channel that follow each other and are not kept.
#[derive(Default)]
struct Run {
    publications: SmallVec<[Arc<Publication>; 8]>,
    replies: SmallVec<[ReplyTo; 8]>,
}

impl Run {
    fn takes(&self, channel: &ChannelName) -> bool {
        self.publications.first().is_none_or(|first| first.channel() == channel)
    }

    fn deliver(&mut self, interest: &Interest) {
        if let Some(first) = self.publications.first() {
            interest.deliver(first.channel(), &self.publications);
        }
        self.publications.clear();
        for reply in self.replies.drain(..) {
            reply.answer(interest, Ok(None));
        }
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn subscribe(&self, _channel: &ChannelName) -> Acknowledgement {
        Acknowledgement::Immediate
    }

    fn unsubscribe(&self, _channel: &ChannelName) {}

    fn publish(&self, publishes: &mut Vec<(Publish, ReplyTo)>) {
        let mut run = Run::default();
        for (publish, reply) in publishes.drain(..) {
            let is_kept = publish.retention.is_some() || publish.terms.is_some();
            if is_kept || !run.takes(publish.publication.channel()) {
                run.deliver(&self.interest);
            }
            if is_kept {
                reply.answer(&self.interest, self.publish_one(publish));
            } else {
                run.publications.push(Arc::new(publish.publication));
                run.replies.push(reply);
            }
        }
        run.deliver(&self.interest);
    }

    fn room(&self) -> Option<Room<'_>> {
        (!self.interest.has_room()).then(|| Box::pin(self.interest.room()) as Room<'_>)
    }

    fn status(&self) -> BrokerStatus {
        BrokerStatus::Ready
    }

    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
        retention: Retention,
    ) -> Result<History, HistoryError> {
        self.look(channel, retention, |stream| stream.history(query))
    }

    async fn recover(
        &self,
        channel: &ChannelName,
        since: Position,
        limit: usize,
        retention: Retention,
    ) -> Result<Recovery, BrokerLost> {
        Ok(self.look(channel, retention, |stream| stream.recover(since, limit)))
    }

    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BrokerLost> {
        if let Some(stream) = self.partition(channel).lock().streams.get_mut(channel) {
            stream.forget();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::conformance;

    #[tokio::test]
    async fn it_conforms() {
        let start = |interest| async { Arc::new(MemoryBroker::new(interest)) as Arc<dyn Broker> };
        conformance::run(start).await;
    }
}
