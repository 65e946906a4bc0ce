//! Subscriptions: made, standing, ended.
//!
//! A subscription is made by a task: it enters presence and asks the node for a place in the
//! channel's order. The place comes as a notice in the shard's inbox, and only then is the client in
//! the hub: what comes before the notice is in its snapshot, what comes behind it is pushed.

use std::rc::Rc;

use dunlin_core::{
    auth::{TokenError, claims::Overrides},
    broker::Since,
    channel::ChannelName,
    command::{self, Request},
    error::{BrokerLost, ClientError, Disconnect},
    event::{Event, Expiry, Outcome, Push, Subscribed, Unsubscribe},
    filter::TagsFilter,
    hub::Company,
    ids::ConnectionId,
    inbox::Joined,
    limits::SUBSCRIBE_WAIT,
    namespace::{ChannelOptions, DeltaType, RecoveryMode, Retention},
    position::Epoch,
    publication::Kind,
    rights::{self, Features, Proof},
    stream::{Resume, Turn},
};
use tokio::{task::spawn_local, time::timeout};

use super::{
    Session, Side, Subscription,
    commands::{Done, Refusal, channel_name},
    policy::unix_now,
    subscription::{Answer, Joining, State, overridden},
};
use crate::{connection::Connection, shard::Shard};

/// What a subscription is to become.
pub(super) struct Wanted {
    pub(super) subscription: Subscription,
    pub(super) retention: Option<Retention>,
    pub(super) resume: Option<Resume>,
}

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

    /// What a client gets that asks for a subscription.
    fn judge(
        &self,
        session: &Session,
        id: u32,
        asked: command::Subscribe,
    ) -> Result<Wanted, Refusal> {
        if asked.channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let channel = channel_name(&asked.channel)?;
        if asked.kind != 0 {
            return Err(ClientError::PermissionDenied.into());
        }
        if session.subscription(&channel).is_some() {
            return Err(ClientError::AlreadySubscribed.into());
        }
        if session.subscriptions.len() >= self.policy().channels_max {
            return Err(ClientError::LimitExceeded.into());
        }
        let entry = self.entry(session, &channel, &asked.token)?;
        let asker = session.asker(self.policy());
        let options = rights::subscribe(self.node().namespaces(), &channel, asker, entry.proof)?;
        let options = overridden(options, entry.overrides);
        let features = Features {
            positioned: asked.positioned,
            recoverable: asked.recoverable,
            join_leave: asked.join_leave,
        };
        let filter = filter(&options, asked.filter)?;
        let wants_delta = delta(&options, &asked.delta)? && filter.is_none();
        let joining = Joining {
            was_recovering: asked.resume.is_some(),
            rejects_unrecovered: asked.flag & command::Subscribe::REJECT_UNRECOVERED != 0,
            wants_number: asked.flag & command::Subscribe::COMPACT != 0,
            wants_delta,
            filter: filter.map(Into::into),
            ..Joining::new(Answer::Reply(id))
        };
        let features = rights::features(&options, asker, features);
        let resume = asked.resume.filter(|_| features.recoverable);
        Ok(Wanted {
            retention: options.retention(),
            resume: resume.map(|resume| self.resume(&options, &resume)),
            subscription: Subscription {
                channel,
                state: State::Joining(Box::new(joining)),
                side: Side::Client,
                features,
                is_announced: options.join_leave,
                is_present: options.presence,
                info: entry.info,
                expire_at: entry.expire_at,
            },
        })
    }

    /// What a client brings to enter a channel.
    fn entry(
        &self,
        session: &Session,
        channel: &ChannelName,
        token: &str,
    ) -> Result<Entry, Refusal> {
        if token.is_empty() {
            return Ok(Entry::default());
        }
        let claims = match self.policy().subscription(token) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ClientError::TokenExpired.into()),
            Err(error) => {
                tracing::debug!(%channel, "subscription refused: {error}");
                return Err(ClientError::PermissionDenied.into());
            }
        };
        if claims.channel != *channel || claims.user != session.identity.user {
            return Err(Disconnect::InvalidToken.into());
        }
        Ok(Entry {
            proof: Proof::Token,
            overrides: claims.overrides,
            info: claims.info,
            expire_at: claims.expire_at,
        })
    }

    /// Where a subscriber wants to go on from, as the stream understands it.
    pub(super) fn resume(&self, options: &ChannelOptions, asked: &command::Resume) -> Resume {
        // A text that is no epoch of ours is of a past that nobody remembers.
        let foreign = || Some(Epoch { id: 0, branch: 0 });
        let epoch = match asked.epoch.as_str() {
            "" => None,
            text => text.parse().ok().or_else(foreign),
        };
        Resume {
            since: Since { offset: asked.offset, epoch },
            limit: self.policy().recovery_max,
            is_cache: options.force_recovery_mode == RecoveryMode::Cache,
        }
    }

    /// Starts the task that makes a subscription.
    pub(super) fn join(self: &Rc<Self>, connection: &Rc<Connection>, wanted: Wanted) {
        let Some(session) = connection.session() else { return };
        let Wanted { subscription, retention, resume } = wanted;
        let channel = subscription.channel.clone();
        session.borrow_mut().subscriptions.push(subscription);
        let (shard, id) = (Rc::clone(self), connection.id());
        spawn_local(async move {
            let enter = shard.enter(id, &channel, retention, resume);
            let entered = timeout(SUBSCRIBE_WAIT, enter).await.unwrap_or(Err(BrokerLost));
            if entered.is_err() {
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
            subscription.is_present.then(|| session.info(subscription.info.clone()))
        });
        if let Some(info) = presence {
            self.node().presence().add(channel, &info).await?;
        }
        self.node().join(channel, id, retention, resume).await
    }

    /// A subscriber's place in its channel's order has come.
    pub(crate) fn joined(self: &Rc<Self>, joined: Joined) {
        let connection = self.connection(joined.connection);
        let is_wanted = connection.as_ref().is_some_and(|connection| {
            let session = connection.session().map(|session| session.borrow());
            let subscription = session.as_ref().and_then(|s| s.subscription(&joined.channel));
            subscription.is_some_and(|s| matches!(s.state, State::Joining(_)))
        });
        match connection {
            Some(connection) if is_wanted => self.stand(&connection, joined),
            _ => self.leave_if_alone(&joined.channel),
        }
    }

    /// Puts a subscriber into the hub and tells whom it concerns.
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
            publications: snapshot.publications,
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
        self.take_waiting(connection, joining.waiting);
    }

    fn tell_subscribed(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        channel: &ChannelName,
        answer: Answer,
        subscribed: Subscribed,
    ) -> Told {
        let subscribed = Box::new(subscribed);
        match answer {
            Answer::Reply(id) => {
                self.reply(connection, id, Ok(Outcome::Subscribe(subscribed)));
            }
            Answer::Push => {
                self.tell(connection, &Event::Push(channel.clone(), Push::Subscribe(subscribed)));
            }
            Answer::Connect => {
                self.connect_subscribed(connection, channel, *subscribed);
                return Told::WithConnect;
            }
        }
        Told::Now
    }

    /// Does what waited for a subscription. A client that is to be closed is closed.
    pub(super) fn take_waiting(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        waiting: Vec<command::Command>,
    ) {
        for command in waiting {
            if let Err(why) = self.take_command(connection, command) {
                return self.end(connection, why);
            }
        }
    }

    /// A subscription could not be made.
    pub(super) fn not_joined(
        self: &Rc<Self>,
        id: ConnectionId,
        channel: &ChannelName,
        error: ClientError,
    ) {
        self.leave_if_alone(channel);
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
        let waiting = joining.waiting.into_iter();
        let waiting =
            waiting.filter(|command| !matches!(command.request, Request::SubRefresh { .. }));
        self.take_waiting(&connection, waiting.collect());
    }

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
            self.node().leave(&channel, connection.id().shard, std::time::Instant::now());
        }
        self.leave_presence(connection, subscription);
        if subscription.is_announced
            && let Some(session) = connection.session()
        {
            let info = session.borrow().info(subscription.info.clone());
            self.announce(&channel, Kind::Leave, info);
        }
    }

    fn leave_presence(&self, connection: &Connection, subscription: &Subscription) {
        let Some(session) = connection.session() else { return };
        if subscription.is_present {
            let client = std::sync::Arc::clone(&session.borrow().identity.client);
            let (node, channel) = (self.shared_node(), subscription.channel.clone());
            spawn_local(async move {
                // The store makes it good by itself when it is back.
                let _ = node.presence().remove(&channel, &client).await;
            });
        }
    }

    /// Positions in a channel count no more: whoever counts them is told.
    pub(crate) fn turned(self: &Rc<Self>, channel: &ChannelName, turn: Turn) {
        let everyone: Vec<u32> = self.hub().everyone(channel).map(|s| s.connection).collect();
        for slot in everyone {
            let Some(connection) = self.connection_at(slot) else { continue };
            let Some(session) = connection.session() else {
                if turn == Turn::Lost {
                    self.end(&connection, Disconnect::PositionLost);
                }
                continue;
            };
            let side = session.borrow().subscription(channel).and_then(|subscription| {
                subscription.features.positioned.then_some(subscription.side)
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

    /// Ends a subscription that the client did not end, and tells it.
    pub(super) fn unsubscribe(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        channel: &ChannelName,
        why: Unsubscribe,
    ) {
        if self.end_subscription(connection, channel) {
            self.tell(connection, &Event::Push(channel.clone(), Push::Unsubscribe(why)));
        }
    }

    fn leave_if_alone(&self, channel: &ChannelName) {
        if !self.hub().has(channel) {
            self.node().leave(channel, self.id(), std::time::Instant::now());
        }
    }
}

/// Whether the client knows of its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Now,
    WithConnect,
}

/// What a client brings to enter a channel.
struct Entry {
    proof: Proof,
    overrides: Overrides,
    info: Option<bytes::Bytes>,
    expire_at: Option<u64>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { proof: Proof::Nothing, overrides: Overrides::default(), info: None, expire_at: None }
    }
}

/// In how many seconds a new token is due.
pub(super) fn expiry(expire_at: Option<u64>) -> Expiry {
    let left = expire_at.map(|at| at.saturating_sub(unix_now()).max(1));
    Expiry(left.map(|left| u32::try_from(left).unwrap_or(u32::MAX)))
}

fn filter(
    options: &ChannelOptions,
    asked: Option<dunlin_core::filter::FilterNode>,
) -> Result<Option<TagsFilter>, ClientError> {
    let Some(node) = asked else { return Ok(None) };
    if !options.allow_tags_filter {
        return Err(ClientError::PermissionDenied);
    }
    TagsFilter::new(node).map(Some).map_err(|_| ClientError::BadRequest)
}

fn delta(options: &ChannelOptions, asked: &str) -> Result<bool, Disconnect> {
    match asked {
        "" => Ok(false),
        "fossil" => Ok(options.allowed_delta_types.contains(&DeltaType::Fossil)),
        _ => Err(Disconnect::BadRequest),
    }
}
