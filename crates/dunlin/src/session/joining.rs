//! From a subscription that a session wants to a place in the channel's order and in the hub, and
//! out of it.

use std::{rc::Rc, sync::Arc, time::Instant};

use dunlin_core::{
    channel::ChannelName,
    error::{BrokerLost, Disconnect},
    hub::{Company, SubscriptionId},
    ids::ConnectionId,
    inbox::Joined,
    interest::Wish,
    limits::SUBSCRIBE_WAIT,
    presence::Farewell,
    publication::ClientInfo,
    session::{Input, Join, Place},
    stream::Turn,
};
use tokio::{task::spawn_local, time::timeout};

use crate::{connection::Connection, shard::Shard};

impl Shard {
    /// Starts the task that asks for a place.
    pub(super) fn join(self: &Rc<Self>, connection: &Rc<Connection>, join: Join) {
        self.begin_join(&join.channel);
        let (shard, id) = (Rc::clone(self), connection.id());
        let recoveries = join.resume.and_then(|_| connection.recoveries());
        spawn_local(async move {
            // What a client missed is large, perhaps: a few channels at once, as fast as it reads.
            let _turn = match recoveries {
                Some(recoveries) => {
                    let turn = recoveries.acquire_owned().await;
                    shard.until_read(id).await;
                    turn.ok()
                }
                None => None,
            };
            let channel = join.channel.clone();
            let entered = timeout(SUBSCRIBE_WAIT, shard.enter(id, join)).await;
            if entered.unwrap_or(Err(BrokerLost)).is_err() {
                shard.end_join(&channel);
                if let Some(connection) = shard.connection(id) {
                    let input = Input::NotJoined(&channel, BrokerLost.into());
                    shard.tell_session(&connection, input);
                }
                shard.flush_replies();
            }
        });
    }

    async fn enter(&self, id: ConnectionId, join: Join) -> Result<(), BrokerLost> {
        let Join { channel, retention, resume, presence } = join;
        let node = self.node();
        let appear = async {
            match presence {
                Some((info, farewell)) => node.presence().add(&channel, &info, farewell).await,
                None => Ok(()),
            }
        };
        let granted = async {
            match node.want(&channel, self.id(), retention)? {
                Wish::Pending(wish) => wish.granted().await,
                Wish::Granted => Ok(()),
            }
        };
        // Side by side: both ask Redis, and neither needs the other's answer.
        tokio::try_join!(appear, granted)?;
        node.join(&channel, id, retention, resume).await
    }

    /// A subscriber's place in its channel's order has come: who still wants it is in the hub.
    pub(crate) fn joined(self: &Rc<Self>, joined: Joined) {
        let channel = joined.channel.clone();
        if let Some(connection) = self.connection(joined.connection) {
            let is_deflated = connection.compression().may_send();
            let session = connection.session();
            let manner = session.and_then(|s| s.borrow().manner(&joined, is_deflated));
            let place = manner.map(|manner| {
                let slot = connection.id().slot;
                connection.record_subscription(channel.as_str());
                let (subscription, _) = self.hub().subscribe(&channel, &manner, slot);
                Place { subscription, manner }
            });
            self.note_subscriptions();
            self.tell_session(&connection, Input::Joined(joined, place));
        }
        self.end_join(&channel);
    }

    /// Something happened to a channel: whom it concerns is told.
    pub(crate) fn turned(self: &Rc<Self>, channel: &ChannelName, turn: Turn) {
        let everyone: Vec<u32> = self.hub().everyone(channel).map(|s| s.connection).collect();
        for slot in everyone {
            let Some(connection) = self.connection_at(slot) else { continue };
            if connection.session().is_some() {
                self.tell_session(&connection, Input::Turned(channel, turn));
                continue;
            }
            match turn {
                Turn::Lost | Turn::Dropped => self.end(&connection, Disconnect::PositionLost),
                Turn::Refused => self.end(&connection, Disconnect::BrokerLost),
                Turn::None | Turn::Moved => {}
            }
        }
    }

    /// Takes a subscriber out of the hub.
    pub(crate) fn leave_hub(&self, place: SubscriptionId) {
        let (channel, company) = self.hub().unsubscribe(place);
        if company == Company::Alone {
            self.leave_if_alone(&channel);
        }
        self.note_subscriptions();
    }

    /// Has presence show something else of a subscriber.
    pub(super) fn appear(&self, channel: ChannelName, info: ClientInfo, farewell: Farewell) {
        let node = self.shared_node();
        spawn_local(async move {
            // The store makes it good by itself when it is back.
            let _ = node.presence().add(&channel, &info, farewell).await;
        });
    }

    /// Takes a subscriber out of presence.
    pub(super) fn disappear(&self, channel: ChannelName, client: Arc<str>) {
        let node = self.shared_node();
        spawn_local(async move {
            // The store makes it good by itself when it is back.
            let _ = node.presence().remove(&channel, &client).await;
        });
    }

    /// Notes that somebody here is about to be subscribed.
    fn begin_join(&self, channel: &ChannelName) {
        *self.joins().entry(channel.clone()).or_default() += 1;
    }

    /// Notes that somebody who was about to be subscribed is, or is not going to be.
    fn end_join(&self, channel: &ChannelName) {
        let mut joins = self.joins();
        if let Some(count) = joins.get_mut(channel) {
            *count -= 1;
            if *count == 0 {
                joins.remove(channel);
            }
        }
        drop(joins);
        self.leave_if_alone(channel);
    }

    /// The shard need not get a channel any more that nobody here is subscribed to or about to be:
    /// between somebody's place in the channel's order and its notice, nothing must be missed.
    fn leave_if_alone(&self, channel: &ChannelName) {
        if !self.hub().has(channel) && !self.joins().contains_key(channel) {
            self.node().leave(channel, self.id(), Instant::now());
        }
    }
}
