//! Presence over Redis. Members stand in Redis under the node that has them, and count while that
//! node has a lease: it costs a node one call every ten seconds, however many members it has. Who
//! has no lease is not shown, and is removed by the others.
//!
//! Calls go over the broker's read link: another connection would be lost with it at the same time.

mod member;

mod wishes;

mod keeper;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use dunlin_core::{
    channel::ChannelName,
    error::BrokerLost,
    presence::{PresenceStats, PresenceStore},
    publication::ClientInfo,
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use self::{keeper::Keeper, wishes::Wishes};
use crate::{
    broker::RedisBroker,
    link::value::Value,
    read::Question,
    script::{self, Script},
};

/// How long members are shown after their node died, at most.
pub const LEASE: Duration = Duration::from_secs(25);

/// How long a node that stops waits for its members to be removed; the end of its lease does the
/// rest.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// Knows the members of every channel of all nodes that use one Redis server.
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
        let (reader, keys) = (broker.reader().clone(), broker.keys().clone());
        let keeper = Keeper::new(Arc::clone(&wishes), reader, keys, lease);
        broker.spawn(keeper.run(stop.subscribe()), &stop);
        Arc::new(Self { broker, wishes, stop })
    }

    async fn ask(
        &self,
        script: &'static Script,
        channel: &ChannelName,
    ) -> Result<Vec<Value>, BrokerLost> {
        let keys = self.broker.keys();
        let mut question = Question::script(script, [keys.nodes(), keys.hosts(channel)]);
        question.push_bytes(keys.start());
        question.push_bytes(channel.as_str().as_bytes());
        match self.broker.reader().ask(question).await? {
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
    async fn add(&self, channel: &ChannelName, info: &ClientInfo) -> Result<(), BrokerLost> {
        told(self.wishes.add(channel, info)).await
    }

    async fn remove(&self, channel: &ChannelName, client: &str) -> Result<(), BrokerLost> {
        told(self.wishes.remove(channel, client)).await
    }

    async fn members(&self, channel: &ChannelName) -> Result<Vec<ClientInfo>, BrokerLost> {
        let nodes = self.ask(&script::PRESENCE_MEMBERS, channel).await?;
        let members = nodes.iter().flat_map(|node| match node {
            Value::Array(members) => &members[..],
            _ => &[],
        });
        Ok(members.filter_map(|it| member::read(it.as_bytes()?)).collect())
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

    async fn leave(&self) -> Result<(), BrokerLost> {
        let left = timeout(LEAVE_WAIT, told(self.wishes.leave())).await;
        self.stop.send_replace(true);
        left.unwrap_or(Err(BrokerLost))
    }
}

async fn told(known: oneshot::Receiver<()>) -> Result<(), BrokerLost> {
    known.await.map_err(|_| BrokerLost)
}
