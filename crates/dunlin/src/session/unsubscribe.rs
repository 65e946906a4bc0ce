//! The ends of subscriptions, whoever wants them.

use std::{rc::Rc, sync::Arc, time::Instant};

use dunlin_core::{
    channel::ChannelName,
    error::Disconnect,
    event::{Event, Push, Unsubscribe},
    hub::Company,
    publication::Kind,
    stream::Turn,
};
use tokio::task::spawn_local;

use super::{Side, Subscription, subscription::State};
use crate::{connection::Connection, shard::Shard};

impl Shard {
    /// Ends a subscription. False when there is none.
    pub(super) fn end_subscription(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        channel: &ChannelName,
    ) -> bool {
        let Some(session) = connection.session() else { return false };
        let Some(subscription) = session.borrow_mut().remove_subscription(channel) else {
            return false;
        };
        self.leave_channel(connection, &subscription);
        self.note_subscriptions();
        true
    }

    /// Ends all subscriptions of a client that goes.
    pub(crate) fn end_subscriptions(&self, connection: &Connection) {
        let Some(session) = connection.session() else { return };
        let subscriptions = std::mem::take(&mut session.borrow_mut().subscriptions);
        for subscription in &subscriptions {
            self.leave_channel(connection, subscription);
        }
    }

    /// Takes a subscriber out of the hub and out of the sight of others.
    fn leave_channel(&self, connection: &Connection, subscription: &Subscription) {
        let State::Standing(id) = subscription.state else {
            return self.leave_presence(connection, subscription);
        };
        let (channel, company) = self.hub().unsubscribe(id);
        if company == Company::Alone {
            self.leave_if_alone(&channel);
        }
        self.leave_presence(connection, subscription);
        let Some(session) = connection.session().map(|session| session.borrow()) else { return };
        // Before its client is in, nobody was told that it came.
        if subscription.is_announced && session.is_connected() {
            self.announce(&channel, Kind::Leave, session.info(subscription.info.clone()));
        }
    }

    pub(super) fn leave_presence(&self, connection: &Connection, subscription: &Subscription) {
        let Some(session) = connection.session() else { return };
        if subscription.is_present {
            let client = Arc::clone(&session.borrow().identity.client);
            let (node, channel) = (self.shared_node(), subscription.channel.clone());
            spawn_local(async move {
                // The store makes it good by itself when it is back.
                let _ = node.presence().remove(&channel, &client).await;
            });
        }
    }

    /// Something happened to a channel: whom it concerns is told.
    pub(crate) fn turned(self: &Rc<Self>, channel: &ChannelName, turn: Turn) {
        let everyone: Vec<u32> = self.hub().everyone(channel).map(|s| s.connection).collect();
        for slot in everyone {
            let Some(connection) = self.connection_at(slot) else { continue };
            let Some(session) = connection.session() else {
                match turn {
                    Turn::Lost | Turn::Dropped => self.end(&connection, Disconnect::PositionLost),
                    Turn::Refused => self.end(&connection, Disconnect::BrokerLost),
                    Turn::None | Turn::Moved => {}
                }
                continue;
            };
            if turn == Turn::Dropped {
                // There is no position that could bring back what it missed, nor a way to tell it
                // of one subscription alone.
                self.end(&connection, Disconnect::PositionLost);
                continue;
            }
            let side = session.borrow().subscription(channel).and_then(|subscription| {
                let is_concerned = turn == Turn::Refused || subscription.features.positioned;
                is_concerned.then_some(subscription.side)
            });
            match side {
                None => {}
                Some(Side::Server) => self.end(&connection, Disconnect::PositionLost),
                Some(Side::Client) => {
                    self.unsubscribe(&connection, channel, Unsubscribe::PositionLost);
                }
            }
        }
    }

    /// Ends a subscription that the client did not end, and tells it: one that is not there yet as
    /// soon as it is, for the client waits to hear of it.
    pub(super) fn unsubscribe(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        channel: &ChannelName,
        why: Unsubscribe,
    ) {
        let Some(session) = connection.session() else { return };
        if let Some(subscription) = session.borrow_mut().subscription_mut(channel)
            && let State::Joining(joining) = &mut subscription.state
        {
            // Its place is on its way and would be taken for that of the next one.
            joining.ended = Some(why);
            return;
        }
        if self.end_subscription(connection, channel) {
            self.tell(connection, &Event::Push(channel.clone(), Push::Unsubscribe(why)));
        }
    }

    /// Notes that somebody here is about to be subscribed.
    pub(super) fn begin_join(&self, channel: &ChannelName) {
        *self.joins().entry(channel.clone()).or_default() += 1;
    }

    /// Notes that somebody who was about to be subscribed is, or is not going to be.
    pub(super) fn end_join(&self, channel: &ChannelName) {
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
    pub(crate) fn leave_if_alone(&self, channel: &ChannelName) {
        if !self.hub().has(channel) && !self.joins().contains_key(channel) {
            self.node().leave(channel, self.id(), Instant::now());
        }
    }
}
