//! Connecting: who a client is, and the channels that it is subscribed to from the start. Its
//! reply brings all of them, so until then nothing is written to it.

use std::{rc::Rc, sync::Arc};

use dunlin_core::{
    auth::{
        TokenError,
        claims::{ConnectionClaims, SubscriptionOptions},
    },
    channel::ChannelName,
    command,
    error::{ClientError, Disconnect},
    event::{Connected, Event, Outcome, Subscribed},
    publication::Kind,
    rights::{self, Features},
};
use dunlin_protocol::centrifuge;
use tokio::time::Instant;

use super::{
    Connecting, Identity, Phase, Session, Side, Subscription, TokenMark,
    commands::{Done, Refusal},
    entry::Wanted,
    subscribe::expiry,
    subscription::{Answer, Joining, State, overridden},
    waiting::Waiting,
};
use crate::{
    connection::{Connection, Written},
    shard::Shard,
};

impl Shard {
    /// Lets a client in, or says why not.
    pub(super) fn connect(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        asked: &command::Connect,
    ) -> Done {
        let claims = self.claims(&asked.token);
        let judged = claims.and_then(|claims| Ok((self.server_side(&claims, asked)?, claims)));
        let (wanted, claims) = match judged {
            Ok(judged) => judged,
            Err(Refusal::Error(error)) => {
                self.refuse_connect_command(connection, id, error);
                return Ok(());
            }
            Err(disconnect) => return Err(disconnect),
        };
        self.admit(connection, &claims)?;
        let Some(session) = connection.session() else { return Ok(()) };
        session.borrow_mut().phase = Phase::Connecting(Box::new(Connecting {
            id,
            waiting: Waiting::default(),
            outstanding: wanted.len(),
            subscribed: Vec::with_capacity(wanted.len()),
        }));
        connection.hold_back();
        if wanted.is_empty() {
            self.finish_connect(connection);
        }
        for wanted in wanted {
            self.join(connection, wanted);
        }
        Ok(())
    }

    /// Who a client is.
    fn claims(&self, token: &str) -> Result<ConnectionClaims, Refusal> {
        if token.is_empty() {
            return match self.policy().allows_anonymous {
                true => Ok(anonymous()),
                false => {
                    tracing::debug!(
                        "connection refused: no token, and anonymous clients are not let in"
                    );
                    Err(Disconnect::BadRequest.into())
                }
            };
        }
        self.policy().connection(token).map_err(|error| match error {
            TokenError::Expired => ClientError::TokenExpired.into(),
            // The key may be there when the client comes again.
            TokenError::UnknownKey => ClientError::Internal.into(),
            TokenError::Invalid(_) | TokenError::TooLarge => Disconnect::InvalidToken.into(),
        })
    }

    /// Gives a client its identity, if its user may have one more connection.
    fn admit(&self, connection: &Rc<Connection>, claims: &ConnectionClaims) -> Done {
        let max = self.policy().user_connections_max;
        if self.is_counted(&claims.user) && !self.user_counts().enter(&claims.user, max) {
            return Err(Disconnect::ConnectionLimit.into());
        }
        self.users().add(&claims.user, connection.id().slot);
        let Some(session) = connection.session() else { return Ok(()) };
        session.borrow_mut().identity = Identity {
            client: client_id(),
            user: Arc::clone(&claims.user),
            info: claims.info.clone(),
            token: TokenMark { id: claims.token_id.clone(), issued_at: claims.issued_at },
            expire_at: claims.expire_at,
        };
        Ok(())
    }

    /// Whether there is a bound to this user's connections.
    fn is_counted(&self, user: &str) -> bool {
        self.policy().user_connections_max > 0 && !user.is_empty()
    }

    /// Forgets who a client was that ends.
    pub(crate) fn dismiss(&self, connection: &Connection) {
        self.unset_wake(connection);
        let Some(session) = connection.session() else { return };
        let session = &mut *session.borrow_mut();
        if session.identity.client.is_empty() {
            return;
        }
        let identity = std::mem::replace(&mut session.identity, Identity::nobody());
        self.users().remove(&identity.user, connection.id().slot);
        if self.is_counted(&identity.user) {
            self.user_counts().leave(&identity.user);
        }
    }

    /// The channels that a client is in from the start.
    fn server_side(
        &self,
        claims: &ConnectionClaims,
        asked: &command::Connect,
    ) -> Result<Vec<Wanted>, Refusal> {
        let none = SubscriptionOptions::default();
        let mut channels: Vec<(ChannelName, &SubscriptionOptions)> =
            claims.subscriptions.iter().map(|(name, options)| (name.clone(), options)).collect();
        if let Some(personal) = self.policy().personal_channel(&claims.user)
            && !claims.subscriptions.contains_key(&personal)
        {
            channels.push((personal, &none));
        }
        if channels.len() > self.policy().channels_max {
            return Err(Disconnect::ChannelLimit.into());
        }
        let wanted = channels.into_iter().map(|(channel, options)| {
            let resume = asked.recover.iter().find(|(name, _)| name == channel.as_str());
            let resume = resume.map(|(_, resume)| resume);
            self.server_side_subscription(&channel, options, resume, &claims.user, Answer::Connect)
        });
        Ok(wanted.collect::<Result<_, ClientError>>()?)
    }

    /// A subscription that the application asked for.
    pub(super) fn server_side_subscription(
        &self,
        channel: &ChannelName,
        subscriber: &SubscriptionOptions,
        resume: Option<&command::Resume>,
        user: &str,
        answer: Answer,
    ) -> Result<Wanted, ClientError> {
        let options = self.node().namespaces().options(channel);
        let options = options.ok_or(ClientError::UnknownChannel)?;
        let options = overridden(options, subscriber.overrides);
        let asker = rights::Asker { user, trust: self.policy().trust };
        let features = rights::features(&options, asker, Features::default());
        let resume = resume.filter(|_| features.recoverable);
        let joining = Joining {
            was_recovering: resume.is_some(),
            data: subscriber.data.clone(),
            ..Joining::new(answer)
        };
        Ok(Wanted {
            retention: options.retention(),
            resume: resume.map(|resume| self.resume(&options, resume)),
            subscription: Subscription {
                channel: channel.clone(),
                state: State::Joining(Box::new(joining)),
                side: Side::Server,
                features,
                is_announced: options.join_leave,
                is_present: options.presence,
                info: subscriber.info.clone(),
                token: None,
                expire_at: None,
            },
        })
    }

    /// One more of the channels stands.
    pub(super) fn connect_subscribed(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        channel: &ChannelName,
        subscribed: Subscribed,
    ) {
        let Some(session) = connection.session() else { return };
        let is_last = {
            let mut session = session.borrow_mut();
            let Phase::Connecting(connecting) = &mut session.phase else { return };
            connecting.subscribed.push((channel.clone(), subscribed));
            connecting.outstanding -= 1;
            connecting.outstanding == 0
        };
        if is_last {
            self.finish_connect(connection);
        }
    }

    /// Answers the connect command, lets go what was held back, and does what waited.
    fn finish_connect(self: &Rc<Self>, connection: &Rc<Connection>) {
        let Some(session) = connection.session() else { return };
        let phase = std::mem::replace(&mut session.borrow_mut().phase, Phase::Connected);
        let Phase::Connecting(connecting) = phase else { return };
        let (ping_s, has_pings) = {
            let session = session.borrow();
            (self.policy().ping_s(), session.is_pinged_by_messages())
        };
        let announced: Vec<_> = {
            let session = session.borrow();
            let announced = session.subscriptions.iter().filter(|s| s.is_announced);
            announced.map(|s| (s.channel.clone(), session.info(s.info.clone()))).collect()
        };
        let connected = Connected {
            client: Arc::clone(session.borrow().client()),
            version: env!("CARGO_PKG_VERSION"),
            expiry: expiry(session.borrow().identity.expire_at),
            subscriptions: connecting.subscribed,
            ping_s: if has_pings { ping_s } else { 0 },
        };
        let outcome = Ok(Outcome::Connect(Box::new(connected)));
        self.say_first(connection, &Event::Reply { id: connecting.id, outcome });
        self.set_wake(connection);
        for (channel, info) in announced {
            self.announce(&channel, Kind::Join, info);
        }
        self.take_waiting(connection, connecting.waiting);
    }

    /// A channel that the client should be in from the start cannot be had.
    pub(super) fn refuse_connect(self: &Rc<Self>, connection: &Rc<Connection>, error: ClientError) {
        let Some(session) = connection.session() else { return };
        let id = match &session.borrow().phase {
            Phase::Connecting(connecting) => connecting.id,
            _ => return,
        };
        self.end_subscriptions(connection);
        self.forget_held_back(connection);
        self.refuse_connect_command(connection, id, error);
    }

    /// Tells a client why it is not let in; it is closed a little later unless it goes itself.
    fn refuse_connect_command(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        error: ClientError,
    ) {
        let Some(session) = connection.session() else { return };
        session.borrow_mut().phase = Phase::Refused(Instant::now() + self.policy().connect_within);
        self.say_first(connection, &Event::Reply { id, outcome: Err(error) });
        self.set_wake(connection);
    }

    /// Writes an event before everything that was held back, and holds back nothing more.
    fn say_first(self: &Rc<Self>, connection: &Rc<Connection>, event: &Event) {
        let Some(session) = connection.session() else { return };
        let encoding = session.borrow().encoding;
        let mut message = Vec::new();
        centrifuge::write_event(encoding, event, &mut message);
        let kind = centrifuge::message_kind(encoding);
        let frame = self.encoder().message(kind, &message, connection.compression().may_send());
        if self.write_first(connection, &frame) == Written::Overrun {
            self.end(connection, Disconnect::SlowReader);
        }
    }
}

impl Session {
    /// When a client that is not in has to be closed.
    pub(super) fn connect_by(&self) -> Option<Instant> {
        match self.phase {
            Phase::Fresh(by) | Phase::Refused(by) => Some(by),
            Phase::Connecting(_) | Phase::Connected => None,
        }
    }
}

fn anonymous() -> ConnectionClaims {
    ConnectionClaims {
        user: Arc::from(""),
        expire_at: None,
        issued_at: None,
        token_id: None,
        info: None,
        meta: None,
        subscriptions: std::collections::BTreeMap::new(),
    }
}

/// A random id in the form of RFC 9562, version 4.
fn client_id() -> Arc<str> {
    let bits = fastrand::u128(..);
    let (a, b) = ((bits >> 96) as u32, (bits >> 80) as u16);
    let (c, d) = ((bits >> 64) as u16 & 0x0FFF | 0x4000, (bits >> 48) as u16 & 0x3FFF | 0x8000);
    let e = bits as u64 & 0xFFFF_FFFF_FFFF;
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}").into()
}
