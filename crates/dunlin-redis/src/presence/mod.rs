//! Presence over Redis. Members stand in Redis under the node that has them, in the partition of
//! their channel, and count while that node has a lease there: it costs a node one call every ten
//! seconds for each partition where it has members, however many. Who has no lease is not shown,
//! and is removed by the others.
//!
//! Calls go over the broker's read link: another connection would be lost with it at the same time.

mod member;

mod wishes;

mod keeper;

mod sweeper;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use dunlin_core::{
    channel::ChannelName,
    error::BrokerLost,
    presence::{Farewell, MEMBERS_MAX, Members, PresenceStats, PresenceStore},
    publication::ClientInfo,
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use self::{keeper::Keeper, sweeper::Sweeper, wishes::Wishes};
use crate::{
    broker::RedisBroker,
    link::value::Value,
    partition::Partition,
    read::Question,
    script::{self, Script},
};

/// How long members are shown after their node died, at most.
pub const LEASE: Duration = Duration::from_secs(25);

/// How long a node that stops waits for its members to be removed; the end of its lease does the
/// rest.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// Knows the members of every channel of all nodes that share Redis.
pub struct RedisPresence {
    broker: Arc<RedisBroker>,
    wishes: Arc<Wishes>,
    stop: watch::Sender<bool>,
}

impl RedisPresence {
    /// A store over the broker's read link, and the task that keeps this node's members there. It
    /// runs on the runtime this is called on. Dropping the store is what a crash is: the end of the
    /// `lease` removes the members.
    #[must_use]
    pub fn start(broker: Arc<RedisBroker>, lease: Duration) -> Arc<Self> {
        let wishes = Arc::new(Wishes::default());
        let stop = watch::Sender::new(false);
        let (readers, keys) = (broker.readers(), broker.keys().clone());
        let sweeper = Sweeper::new(readers.clone(), keys.clone(), lease);
        broker.spawn(sweeper.run(stop.subscribe()), &stop);
        let keeper = Keeper::new(Arc::clone(&wishes), readers, keys, lease);
        broker.spawn(keeper.run(stop.subscribe()), &stop);
        Arc::new(Self { broker, wishes, stop })
    }

    async fn ask(
        &self,
        script: &'static Script,
        channel: &ChannelName,
    ) -> Result<Vec<Value>, BrokerLost> {
        let (keys, partition) = (self.broker.keys(), Partition::of(channel));
        let names = [keys.nodes(partition), keys.hosts(channel), keys.never(partition)];
        let mut question = Question::script(script, names);
        question.push_bytes(&keys.start(partition));
        question.push_bytes(channel.as_str().as_bytes());
        question.push_number(MEMBERS_MAX as u64);
        match self.broker.readers().ask(partition, question).await? {
            Value::Array(values) => Ok(values),
            _ => Err(BrokerLost),
        }
    }
}

impl Drop for RedisPresence {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

#[async_trait]
impl PresenceStore for RedisPresence {
    async fn add(
        &self,
        channel: &ChannelName,
        info: &ClientInfo,
        farewell: Farewell,
    ) -> Result<(), BrokerLost> {
        told(self.wishes.add(channel, info, farewell)).await
    }

    async fn remove(&self, channel: &ChannelName, client: &str) -> Result<(), BrokerLost> {
        told(self.wishes.remove(channel, client)).await
    }

    async fn members(&self, channel: &ChannelName) -> Result<Members, BrokerLost> {
        let answer = self.ask(&script::PRESENCE_MEMBERS, channel).await?;
        let [Value::Integer(is_truncated), members @ ..] = &answer[..] else {
            return Err(BrokerLost);
        };
        let members = members.iter().filter_map(|it| member::read(it.as_bytes()?));
        Ok(Members { first: members.collect(), is_truncated: *is_truncated != 0 })
    }

    async fn stats(&self, channel: &ChannelName) -> Result<PresenceStats, BrokerLost> {
        match self.ask(&script::PRESENCE_STATS, channel).await?[..] {
            [Value::Integer(clients), Value::Integer(users)] => {
                let count = |number| usize::try_from(number).unwrap_or_default();
                Ok(PresenceStats { clients: count(clients), users: count(users) })
            }
            _ => Err(BrokerLost),
        }
    }

    fn member_count(&self) -> usize {
        self.wishes.member_count()
    }

    async fn leave(&self) -> Result<(), BrokerLost> {
        let left = timeout(LEAVE_WAIT, told(self.wishes.leave())).await;
        self.stop.send_replace(true);
        left.unwrap_or(Err(BrokerLost))
    }
}

async fn told(known: oneshot::Receiver<()>) -> Result<(), BrokerLost> {
    known.await.map_err(|_| BrokerLost)
}
