//! Subscriptions: made, standing, ended.
//!
//! A subscription is made by a task: it enters presence and asks the node for a place in the
//! channel's order. The place comes as a notice in the shard's inbox, and only then is the client
//! in the hub: what comes before the notice is in its snapshot, what comes behind it is pushed.

use std::{rc::Rc, sync::Arc};

use dunlin_core::{
    channel::ChannelName,
    command,
    error::{BrokerLost, ClientError},
    event::{Event, Expiry, Outcome, Push, Subscribed},
    hub::Manner,
    ids::ConnectionId,
    inbox::Joined,
    interest::Wish,
    limits::SUBSCRIBE_WAIT,
    namespace::Retention,
    presence::Farewell,
    publication::{Kind, Publication},
    stream::Resume,
};
use tokio::{task::spawn_local, time::timeout};

use super::{
    commands::Done,
    entry::Wanted,
    subscription::{Answer, Joining, State},
    waiting::Waiting,
};
use crate::{clock::unix_now, connection::Connection, shard::Shard};

impl Shard {
    /// Subscribes a client that asks for it.
    pub(super) fn subscribe(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        asked: command::Subscribe,
    ) -> Done {
        let Some(session) = connection.session() else { return Ok(()) };
        let wanted = self.judge(&session.borrow(), id, asked)?;
        self.join(connection, wanted);
        Ok(())
    }

    /// Starts the task that makes a subscription.
    pub(super) fn join(self: &Rc<Self>, connection: &Rc<Connection>, wanted: Wanted) {
        let Some(session) = connection.session() else { return };
        let Wanted { subscription, retention, resume } = wanted;
        let channel = subscription.channel.clone();
        session.borrow_mut().add_subscription(subscription);
        self.begin_join(&channel);
        let (shard, id) = (Rc::clone(self), connection.id());
        spawn_local(async move {
            let enter = shard.enter(id, &channel, retention, resume);
            let entered = timeout(SUBSCRIBE_WAIT, enter).await.unwrap_or(Err(BrokerLost));
            if entered.is_err() {
                shard.end_join(&channel);
                shard.not_joined(id, &channel, BrokerLost.into());
                shard.flush_replies();
            }
        });
    }

    async fn enter(
        &self,
        id: ConnectionId,
        channel: &ChannelName,
        retention: Option<Retention>,
        resume: Option<Resume>,
    ) -> Result<(), BrokerLost> {
        let presence = self.connection(id).and_then(|connection| {
            let session = connection.session()?.borrow();
            let subscription = session.subscription(channel)?;
            let farewell = match subscription.is_announced {
                true => Farewell::Announced,
                false => Farewell::Silent,
            };
            let info = || (session.info(subscription.info.clone()), farewell);
            subscription.is_present.then(info)
        });
        let node = self.node();
        let appear = async {
            match presence {
                Some((info, farewell)) => node.presence().add(channel, &info, farewell).await,
                None => Ok(()),
            }
        };
        let granted = async {
            match node.want(channel, self.id(), retention)? {
                Wish::Pending(wish) => wish.granted().await,
                Wish::Granted => Ok(()),
            }
        };
        // Side by side: both ask Redis, and neither needs the other's answer.
        tokio::try_join!(appear, granted)?;
        node.join(channel, id, retention, resume).await
    }

    /// A subscriber's place in its channel's order has come.
    pub(crate) fn joined(self: &Rc<Self>, joined: Joined) {
        let channel = joined.channel.clone();
        if let Some(connection) = self.connection(joined.connection) {
            self.stand(&connection, joined);
        }
        self.end_join(&channel);
    }

    /// Puts a subscriber that still wants its place into the hub and tells whom it concerns.
    fn stand(self: &Rc<Self>, connection: &Rc<Connection>, joined: Joined) {
        let Some(session) = connection.session() else { return };
        let Joined { channel, number, snapshot, .. } = joined;
        let mut session = session.borrow_mut();
        let encoding = session.encoding;
        let Some(subscription) = session.subscription_mut(&channel) else { return };
        let State::Joining(joining) = &mut subscription.state else { return };
        if joining.was_recovering && !snapshot.recovered && joining.rejects_unrecovered {
            drop(session);
            return self.not_joined(connection.id(), &channel, ClientError::UnrecoverablePosition);
        }
        let mut joining = std::mem::replace(joining, Box::new(Joining::new(Answer::Push)));
        let is_deflated = connection.compression().may_send();
        let hears_joins = subscription.features.join_leave;
        let manner = joining.manner(encoding, is_deflated, number, hears_joins);
        let slot = connection.id().slot;
        let (id, _) = self.hub().subscribe(&channel, &manner, slot);
        subscription.state = State::Standing(id);
        let features = subscription.features;
        let subscribed = Subscribed {
            expiry: expiry(subscription.expire_at),
            positioned: features.positioned,
            recoverable: features.recoverable,
            position: snapshot.position.filter(|_| features.positioned),
            was_recovering: joining.was_recovering,
            recovered: snapshot.recovered,
            publications: wanted(snapshot.publications, &manner),
            data: joining.data.take(),
            delta: joining.wants_delta,
            number: joining.wants_number.then_some(number),
        };
        let announced = subscription.is_announced.then(|| subscription.info.clone());
        let announced = announced.map(|chan_info| session.info(chan_info));
        drop(session);
        self.note_subscriptions();
        self.set_wake(connection);
        let subscribed = self.tell_subscribed(connection, &channel, joining.answer, subscribed);
        if let (Some(info), Told::Now) = (announced, subscribed) {
            self.announce(&channel, Kind::Join, info);
        }
        if let Some(why) = joining.ended {
            self.unsubscribe(connection, &channel, why);
        }
        self.take_waiting(connection, joining.waiting);
    }

    fn tell_subscribed(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        channel: &ChannelName,
        answer: Answer,
        mut subscribed: Subscribed,
    ) -> Told {
        match answer {
            Answer::Reply(id) => {
                self.reply(connection, id, Ok(Outcome::Subscribe(Box::new(subscribed))));
            }
            Answer::Push => {
                // The push has no place for them.
                let missed = std::mem::take(&mut subscribed.publications);
                let push = Push::Subscribe(Box::new(subscribed));
                self.tell(connection, &Event::Push(channel.clone(), push));
                for publication in missed {
                    self.tell(connection, &Event::Missed(publication));
                }
            }
            Answer::Connect => {
                self.connect_subscribed(connection, channel, subscribed);
                return Told::WithConnect;
            }
        }
        Told::Now
    }

    /// Does what waited for a subscription. A client that is to be closed is closed.
    pub(super) fn take_waiting(self: &Rc<Self>, connection: &Rc<Connection>, waiting: Waiting) {
        for command in waiting {
            if let Err(why) = self.take_command(connection, command) {
                self.publish_gathered();
                return self.end(connection, why);
            }
        }
        self.publish_gathered();
    }

    /// A subscription could not be made.
    pub(super) fn not_joined(
        self: &Rc<Self>,
        id: ConnectionId,
        channel: &ChannelName,
        error: ClientError,
    ) {
        let Some(connection) = self.connection(id) else { return };
        let Some(session) = connection.session() else { return };
        let is_joining = session
            .borrow()
            .subscription(channel)
            .is_some_and(|subscription| matches!(subscription.state, State::Joining(_)));
        // Its place may have come in the last moment.
        if !is_joining {
            return;
        }
        let Some(subscription) = session.borrow_mut().remove_subscription(channel) else { return };
        self.leave_presence(&connection, &subscription);
        let State::Joining(joining) = subscription.state else { return };
        match joining.answer {
            Answer::Reply(id) => self.reply(&connection, id, Err(error)),
            Answer::Connect => return self.refuse_connect(&connection, error),
            // The application asked, and the client knows nothing of it.
            Answer::Push => {}
        }
        self.take_waiting(&connection, joining.waiting);
    }
}

/// Whether the client knows of its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Now,
    WithConnect,
}

/// What of its snapshot a subscriber gets: as of all that follows, what it can read and picks.
fn wanted(mut publications: Vec<Arc<Publication>>, manner: &Manner) -> Vec<Arc<Publication>> {
    publications.retain(|publication| manner.wants(publication));
    publications
}

/// In how many seconds a new token is due.
pub(super) fn expiry(expire_at: Option<u64>) -> Expiry {
    let left = expire_at.map(|at| at.saturating_sub(unix_now()).max(1));
    Expiry(left.map(|left| u32::try_from(left).unwrap_or(u32::MAX)))
}
