//! The broker of a node that is alone: what is published here is delivered here, and kept here.

mod answers;
mod partition;
mod stream;

use std::{
    hash::{BuildHasher, RandomState},
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use smallvec::SmallVec;

use self::{partition::Partition, stream::Stream};
use crate::{
    broker::{Broker, History, HistoryQuery, Outage, PageBounds, Publish, Recovery, ReplyTo, Room},
    channel::ChannelName,
    error::{BrokerLost, HistoryError, PublishOutcome},
    interest::{Acknowledgement, Interest},
    limits::HISTORY_BYTES,
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
    /// About how much all partitions take, and how much they may.
    bytes: AtomicUsize,
    bytes_max: usize,
    /// The partition where room is made next.
    next: AtomicUsize,
}

/// A power of two well above the number of threads that meet here.
const PARTITIONS: usize = 64;

impl MemoryBroker {
    /// A broker that delivers through `interest`.
    #[must_use]
    pub fn new(interest: Arc<Interest>) -> Self {
        Self {
            interest,
            partitions: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            bytes: AtomicUsize::new(0),
            bytes_max: HISTORY_BYTES,
            next: AtomicUsize::new(0),
        }
    }

    /// The same with another bound than [`HISTORY_BYTES`] for all that is kept: publications,
    /// positions and answers. Beyond it the oldest goes, publications before positions.
    #[must_use]
    pub fn with_bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// About how many bytes are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
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
                let append = |stream: &mut Stream| {
                    if stream.takes(&terms) {
                        // Under the lock: delivered in the order in which it is kept.
                        self.deliver(&stream.append(publication, retention, now));
                    }
                    stream.top()
                };
                Some(partition.write(&self.hasher, &channel, now, append))
            }
        };
        partition.answers.keep(channel, terms.idempotency_key, answer, now);
        partition.settle(&self.bytes);
        drop(partition);
        self.make_room();
        Ok(answer)
    }

    /// Lets go of the oldest while there is more than may be, of one partition after another.
    fn make_room(&self) {
        let mut in_vain = 0;
        while self.bytes() > self.bytes_max && in_vain < 2 * PARTITIONS {
            let next = self.next.fetch_add(1, Ordering::Relaxed) % PARTITIONS;
            let mut partition = self.partitions[next].lock();
            in_vain = if partition.drop_oldest() { 0 } else { in_vain + 1 };
            partition.settle(&self.bytes);
        }
    }

    fn deliver(&self, publication: &Arc<Publication>) {
        self.interest.deliver(publication.channel(), slice::from_ref(publication));
    }

    /// Runs `look` on the channel's stream as it is now. Looking keeps nothing.
    fn look<T>(&self, channel: &ChannelName, look: impl FnOnce(&Stream, Instant) -> T) -> T {
        let now = Instant::now();
        let mut partition = self.partition(channel).lock();
        partition.sweep(now);
        let found = partition.look(&self.hasher, channel, now, |stream| look(stream, now));
        partition.settle(&self.bytes);
        found
    }

    fn partition(&self, channel: &ChannelName) -> &Mutex<Partition> {
        &self.partitions[self.hasher.hash_one(channel) as usize % PARTITIONS]
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

    fn publish(&self, publishes: &mut Vec<(Publish, ReplyTo)>) -> Option<Room> {
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
        let room = || {
            let interest = Arc::clone(&self.interest);
            Box::pin(async move { interest.room().await }) as Room
        };
        (!self.interest.has_room()).then(room)
    }

    fn outages(&self, _channel: Option<&ChannelName>) -> Vec<Outage> {
        Vec::new()
    }

    async fn history(
        &self,
        channel: &ChannelName,
        query: HistoryQuery,
        _retention: Retention,
    ) -> Result<History, HistoryError> {
        self.look(channel, |stream, _| stream.history(query))
    }

    async fn positions(&self, channels: &[(ChannelName, Retention)]) -> Vec<Option<Position>> {
        let position = |(channel, _): &(ChannelName, Retention)| {
            Some(self.look(channel, |stream, _| stream.top()))
        };
        channels.iter().map(position).collect()
    }

    async fn recover(
        &self,
        channel: &ChannelName,
        since: Position,
        bounds: PageBounds,
        _retention: Retention,
    ) -> Result<Recovery, BrokerLost> {
        Ok(self.look(channel, |stream, now| stream.recover(since, bounds, now)))
    }

    async fn remove_history(&self, channel: &ChannelName) -> Result<(), BrokerLost> {
        let mut partition = self.partition(channel).lock();
        partition.forget_history(channel);
        partition.settle(&self.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::{Terms, conformance},
        history::PAGE_BYTES,
        publication::Kind,
    };

    const RETENTION: Retention =
        Retention { size: 10, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(600) };

    #[tokio::test]
    async fn it_conforms() {
        let start = |interest| async { Arc::new(MemoryBroker::new(interest)) as Arc<dyn Broker> };
        conformance::run(start).await;
    }

    fn broker(bytes_max: usize) -> MemoryBroker {
        MemoryBroker::new(Arc::new(Interest::new(Vec::new()))).with_bytes_max(bytes_max)
    }

    fn keep(broker: &MemoryBroker, channel: &str, key: &str) {
        let channel = ChannelName::new(channel).unwrap();
        let publication = Publication::new(channel, Kind::Text, Bytes::from(vec![b'x'; 100]));
        let terms = Terms { idempotency_key: key.to_owned(), ..Terms::default() };
        let (retention, terms) = (Some(RETENTION), Some(Box::new(terms)));
        broker.publish(&mut vec![(Publish { publication, retention, terms }, ReplyTo::Nobody)]);
    }

    #[tokio::test]
    async fn a_history_is_told_page_by_page() {
        let (broker, channel) = (broker(usize::MAX), ChannelName::new("c").unwrap());
        for _ in 0..10 {
            let data = Bytes::from(vec![b'x'; PAGE_BYTES / 4]);
            let publication = Publication::new(channel.clone(), Kind::Text, data);
            let publish = Publish { publication, retention: Some(RETENTION), terms: None };
            broker.publish(&mut vec![(publish, ReplyTo::Nobody)]);
        }
        for (is_reverse, page) in [(false, [1, 2, 3, 4]), (true, [10, 9, 8, 7])] {
            let query = HistoryQuery { since: None, limit: usize::MAX, is_reverse };
            let History { top, publications } =
                broker.history(&channel, query, RETENTION).await.unwrap();
            assert_eq!(top.offset, 10);
            let offsets = publications.iter().map(|it| it.position().unwrap().offset);
            assert!(offsets.eq(page), "it ends when it has the bytes");
        }
    }

    async fn top(broker: &MemoryBroker, channel: &str) -> Position {
        let channel = ChannelName::new(channel).unwrap();
        broker.positions(&[(channel, RETENTION)]).await[0].unwrap()
    }

    #[tokio::test]
    async fn asking_keeps_nothing() {
        let broker = broker(1 << 20);
        let mut first = None;
        for number in 0..10_000 {
            let position = top(&broker, &format!("c{number}")).await;
            first.get_or_insert(position);
        }
        assert_eq!(broker.bytes(), 0);
        assert!(broker.partitions.iter().all(|partition| partition.lock().is_empty()));
        assert_eq!(first, Some(top(&broker, "c0").await), "and yet the answer is the same");
    }

    #[tokio::test]
    async fn what_strangers_can_have_kept_is_bounded_and_told_by_epoch() {
        const BYTES_MAX: usize = 1 << 20;
        let broker = broker(BYTES_MAX);
        keep(&broker, "first", "");
        let first = top(&broker, "first").await;
        for number in 0..20_000 {
            keep(&broker, &format!("c{number}"), &format!("{number}"));
            assert!(broker.bytes() <= BYTES_MAX);
            // Who is in use stays, if only its position.
            keep(&broker, "used", "");
        }
        assert!(broker.bytes() > BYTES_MAX / 2, "it is there to be used");
        assert_eq!(top(&broker, "used").await.offset, 20_000);
        assert_eq!(top(&broker, "first").await.offset, 0);
        assert_ne!(top(&broker, "first").await.epoch, first.epoch);
        let kept = |partition: &Mutex<Partition>| partition.lock().order_len();
        assert!(broker.partitions.iter().map(kept).sum::<usize>() < 20_000);
    }
}
