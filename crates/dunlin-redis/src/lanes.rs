//! All lanes of a node: whatever concerns a channel goes to the lane that has it.

mod following;

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use dunlin_core::{
    broker::{Outage, Publish, ReplyTo, Room},
    channel::ChannelName,
    error::BrokerLost,
    namespace::Retention,
    position::Position,
};
use parking_lot::RwLock;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep},
};

pub(crate) use self::following::Following;
use crate::{
    channels::Verb,
    cluster::ELSEWHERE_PAUSE,
    keys::{Keys, PubSub},
    lane::{Lane, founder::Founder},
    link::{dial::Dialer, error::tells_elsewhere, value::Value},
    partition::Partition,
    read::Question,
    shares::Shares,
    stream,
};

/// See the module's text.
pub(crate) struct Lanes {
    /// Read to find a lane and hand it something in one step, written to move a partition: so what
    /// goes to the new lane was decided behind all that went to the old one.
    lanes: RwLock<Vec<Arc<Lane>>>,
    shares: Shares,
    /// Rung when a server says that something is elsewhere.
    doubt: Arc<Notify>,
}

impl Lanes {
    /// No lanes yet.
    pub(crate) fn new(shares: Shares, doubt: Arc<Notify>) -> Self {
        Self { lanes: RwLock::default(), shares, doubt }
    }

    /// Adds a lane, whose number is that of the lanes before it. See [`Founder::found`].
    pub(crate) fn found(
        &self,
        founder: &Founder,
        dialer: Dialer,
        address: Arc<str>,
        place: String,
    ) {
        let share = self.shares.of(self.lanes.read().len());
        let lane = Arc::new(founder.found(dialer, address, place, share));
        self.lanes.write().push(lane);
    }

    /// Orders of the lane that has it that a channel is subscribed to or not.
    pub(crate) fn order(&self, verb: Verb, channel: &ChannelName) {
        let lanes = self.lanes.read();
        self.find(&lanes, channel).links.order(verb, channel);
    }

    fn find<'a>(&self, lanes: &'a [Arc<Lane>], channel: &ChannelName) -> &'a Arc<Lane> {
        match lanes {
            [only] => only,
            _ => &lanes[self.shares.lane(Partition::of(channel))],
        }
    }

    fn of(&self, partition: Partition) -> Arc<Lane> {
        Arc::clone(&self.lanes.read()[self.shares.lane(partition)])
    }

    /// Whether nodes may yet put back what a partition's server lacks.
    pub(crate) fn is_succession_fresh(&self, partition: Partition) -> bool {
        self.of(partition).health.is_succession_fresh()
    }

    /// Waits until all are ready that have anything. Cancel-safe.
    pub(crate) async fn ready(&self) {
        for lane in self.used() {
            lane.ready().await;
        }
    }

    pub(crate) fn has_partitions(&self, lane: usize) -> bool {
        self.lanes.read()[lane].share.first().is_some()
    }

    /// Whether a lane has handed over all that left it.
    pub(crate) fn has_handed_over(&self, lane: usize) -> bool {
        !self.lanes.read()[lane].queue.is_leaving()
    }

    /// Those that have partitions.
    fn used(&self) -> Vec<Arc<Lane>> {
        let lanes = self.lanes.read();
        lanes.iter().filter(|lane| lane.share.first().is_some()).cloned().collect()
    }

    /// Hands each publish to its lane, in order; who brings more than one takes has to wait for it.
    pub(crate) fn publish(&self, publishes: &mut Vec<(Publish, ReplyTo)>) -> Option<Room> {
        let lanes = self.lanes.read();
        if let [only] = &lanes[..] {
            only.queue.push(publishes.drain(..));
            return only.queue.crowd();
        }
        let mut crowd = None;
        let mut rest = publishes.drain(..).peekable();
        while let Some(first) = rest.next() {
            let lane = self.find(&lanes, first.0.publication.channel());
            let is_here = |publish: &(Publish, ReplyTo)| {
                Arc::ptr_eq(self.find(&lanes, publish.0.publication.channel()), lane)
            };
            let mut run = vec![first];
            while let Some(next) = rest.next_if(is_here) {
                run.push(next);
            }
            lane.queue.push(run);
            crowd = crowd.or_else(|| lane.queue.crowd());
        }
        crowd
    }

    /// Asks about a partition, and again for a while if it is elsewhere.
    ///
    /// # Errors
    /// When its server is away for too long, or answers with an error or more than can be taken.
    pub(crate) async fn ask(
        &self,
        partition: Partition,
        question: Question,
    ) -> Result<Value, BrokerLost> {
        let gives_up_at = Instant::now() + ELSEWHERE_WAIT;
        loop {
            let reader = self.of(partition).reader.clone();
            match reader.ask(question.clone()).await? {
                Value::Error(text) if tells_elsewhere(&text) && Instant::now() < gives_up_at => {
                    self.doubt.notify_waiters();
                    sleep(ELSEWHERE_PAUSE).await;
                }
                Value::Error(_) => return Err(BrokerLost),
                answer => return Ok(answer),
            }
        }
    }

    /// Asks the lanes side by side where these channels are.
    pub(crate) async fn positions(
        self: &Arc<Self>,
        keys: &Keys,
        channels: &[(ChannelName, Retention)],
    ) -> Vec<Option<Position>> {
        let mut together = BTreeMap::<_, Vec<usize>>::new();
        for (number, (channel, _)) in channels.iter().enumerate() {
            let partition = Partition::of(channel);
            let group = match keys.pub_sub() {
                PubSub::Classic => self.shares.lane(partition),
                // One question is about one slot.
                PubSub::Sharded => partition.place(),
            };
            together.entry(group).or_default().push(number);
        }
        let mut asked = JoinSet::new();
        for numbers in together.into_values() {
            let members = numbers.iter().map(|number| &channels[*number]);
            let partition = Partition::of(&channels[numbers[0]].0);
            let question = stream::ask_positions(keys, members);
            let lanes = Arc::clone(self);
            asked.spawn(async move {
                let answer = lanes.ask(partition, question).await;
                (numbers, answer.and_then(|answer| stream::read_positions(&answer)))
            });
        }
        let mut positions = vec![None; channels.len()];
        for (numbers, told) in asked.join_all().await {
            for (number, position) in numbers.into_iter().zip(told.unwrap_or_default()) {
                positions[number] = Some(position);
            }
        }
        positions
    }

    /// What keeps a channel from being joined, or what is wrong with any lane.
    pub(crate) fn outages(&self, channel: Option<&ChannelName>) -> Vec<Outage> {
        match channel {
            Some(channel) => {
                let lanes = self.lanes.read();
                self.find(&lanes, channel).health.hindrance().into_iter().collect()
            }
            None => self.used().iter().filter_map(|lane| lane.health.outage()).collect(),
        }
    }

    /// Gives a partition to another lane. False if it is still on its way from one to another.
    pub(crate) fn give(&self, partition: Partition, to: usize) -> bool {
        let lanes = self.lanes.write();
        let from = self.shares.lane(partition);
        if from == to {
            return true;
        }
        let (old, new) = (&lanes[from], &lanes[to]);
        if !old.queue.leave(partition, &new.queue) {
            return false;
        }
        self.shares.give(partition, to);
        old.links.leave(partition);
        new.links.arrive(partition);
        true
    }
}

/// Who answers questions about which partition. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers {
    lanes: Arc<Lanes>,
    returns: watch::Receiver<()>,
}

impl Readers {
    /// `returns` tells of read links that are made again.
    pub(crate) fn new(lanes: Arc<Lanes>, returns: watch::Receiver<()>) -> Self {
        Self { lanes, returns }
    }

    /// See [`Lanes::ask`].
    pub(crate) async fn ask(
        &self,
        partition: Partition,
        question: Question,
    ) -> Result<Value, BrokerLost> {
        self.lanes.ask(partition, question).await
    }

    /// Waits until a read link is made again after a loss; one that nobody waited for counts.
    /// Cancel-safe.
    pub(crate) async fn returned(&mut self) {
        if self.returns.changed().await.is_err() {
            // All links have ended for good.
            pending().await
        }
    }
}

/// How long a question waits for a partition that is on its way.
const ELSEWHERE_WAIT: Duration = Duration::from_secs(2);
