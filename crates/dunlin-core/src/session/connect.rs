//! Connecting: who a client is, and the channels that it is subscribed to from the start. Its
//! reply brings all of them, so until then nothing is written to it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Connecting, Done, Effect, Identity, Inquiry, Phase, Refusal, Session, Side, Subscription,
    TokenMark,
    asking::Next,
    effect::Step,
    entry::{Wanted, resume},
    subscription::{AnswerTo, Joining, State, overridden},
    waiting::Waiting,
};
use crate::{
    auth::{
        TokenError,
        claims::{ConnectionClaims, SubscriptionOptions},
    },
    channel::ChannelName,
    command,
    error::{ClientError, Disconnect},
    event::{Connected, Event, Outcome, Subscribed},
    publication::Kind,
    rights::{self, Features, Proof},
};

/// How long a client may stay that was told why it is not let in.
const REFUSAL_GRACE: Duration = Duration::from_secs(1);

/// A client that may come in if its user may have one more connection.
#[derive(Debug)]
pub(super) struct Admission {
    claims: ConnectionClaims,
    wanted: Vec<Wanted>,
}

impl Session {
    /// Lets a client in, or says why not.
    pub(super) fn connect(
        &mut self,
        id: u32,
        asked: command::Connect,
        step: &mut Step<'_>,
    ) -> Done {
        self.phase = Phase::Connecting(Box::new(Connecting {
            id,
            channels: asked.channels,
            waiting: Waiting::default(),
            outstanding: 0,
            subscribed: Vec::new(),
        }));
        if !asked.token.is_empty() {
            return self.ask(Inquiry::ConnectionToken(asked.token), Next::Connect, step);
        }
        if !step.context.rules.allows_anonymous {
            let why = "connection refused: no token, and anonymous clients are not let in";
            step.push(Effect::Note(why));
            return Err(Disconnect::BadRequest.into());
        }
        Ok(self.connect_as(anonymous(), step)?)
    }

    /// Goes on with what the client's token says.
    pub(super) fn connect_with(
        &mut self,
        claims: Result<Box<ConnectionClaims>, TokenError>,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        match claims {
            Ok(claims) => self.connect_as(*claims, step),
            // Clients fetch another token and come again; of any other error they stay away.
            Err(TokenError::Expired | TokenError::NotYet) => {
                self.refuse_connect(ClientError::TokenExpired, step)
            }
            // The key may be there when the client comes again.
            Err(TokenError::UnknownKey) => self.refuse_connect(ClientError::Internal, step),
            Err(TokenError::NotChecked) => self.refuse_connect(ClientError::TooManyRequests, step),
            Err(TokenError::Invalid(_) | TokenError::TooLarge) => Err(Disconnect::InvalidToken),
        }
    }

    fn connect_as(
        &mut self,
        claims: ConnectionClaims,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        match self.server_side(&claims, step) {
            Ok(wanted) => {
                let inquiry = Inquiry::Admission(Arc::clone(&claims.user));
                let next = Next::Admit(Box::new(Admission { claims, wanted }));
                // Nothing else is asked for before the client is in.
                self.ask(inquiry, next, step).map_err(|_| Disconnect::Internal)
            }
            Err(Refusal::Error(error)) => self.refuse_connect(error, step),
            Err(Refusal::Disconnect(why)) => Err(why),
        }
    }

    /// Gives a client its identity and its channels, if its user may have one more connection.
    pub(super) fn admitted(
        &mut self,
        admission: Admission,
        client: Option<Arc<str>>,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let Some(client) = client else { return Err(Disconnect::ConnectionLimit) };
        let Admission { claims, wanted } = admission;
        self.identity = Identity {
            client,
            user: claims.user,
            info: claims.info,
            token: TokenMark { id: claims.token_id, issued_at: claims.issued_at },
            expire_at: claims.expire_at,
        };
        let Phase::Connecting(connecting) = &mut self.phase else { return Ok(()) };
        connecting.outstanding = wanted.len();
        if wanted.is_empty() {
            return self.finish_connect(step);
        }
        step.push(Effect::HoldBack);
        for wanted in wanted {
            self.join(wanted, step);
        }
        Ok(())
    }

    /// The channels that a client is in from the start.
    fn server_side(
        &self,
        claims: &ConnectionClaims,
        step: &Step<'_>,
    ) -> Result<Vec<Wanted>, Refusal> {
        let rules = step.context.rules;
        let none = SubscriptionOptions::default();
        let mut channels: Vec<(ChannelName, &SubscriptionOptions)> =
            claims.subscriptions.iter().map(|(name, options)| (name.clone(), options)).collect();
        if let Some(personal) = rules.personal_channel(&claims.user)
            && !claims.subscriptions.contains_key(&personal)
        {
            channels.push((personal, &none));
        }
        let Phase::Connecting(connecting) = &self.phase else { return Ok(Vec::new()) };
        for (name, _) in &connecting.channels {
            let is_new = |channel: &ChannelName| channels.iter().all(|(other, _)| other != channel);
            let own = may_begin_in(name, &claims.user, step).filter(is_new);
            channels.extend(own.map(|channel| (channel, &none)));
            if channels.len() > rules.channels_max {
                break;
            }
        }
        if channels.len() > rules.channels_max {
            return Err(Disconnect::ChannelLimit.into());
        }
        let wanted = channels.into_iter().map(|(channel, options)| {
            let asked = connecting.channels.iter().find(|(name, _)| name == channel.as_str());
            let resume = asked.and_then(|(_, resume)| resume.as_ref());
            let to = AnswerTo::Connect;
            let user = &claims.user;
            let wanted = server_side_subscription(&channel, options, resume, user, to, step)?;
            Ok(wanted.named_by(claims, rules))
        });
        Ok(wanted.collect::<Result<_, ClientError>>()?)
    }

    /// One more of the channels stands.
    pub(super) fn connect_subscribed(
        &mut self,
        channel: ChannelName,
        subscribed: Subscribed,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let Phase::Connecting(connecting) = &mut self.phase else { return Ok(()) };
        connecting.subscribed.push((channel, subscribed));
        connecting.outstanding -= 1;
        match connecting.outstanding {
            0 => self.finish_connect(step),
            _ => Ok(()),
        }
    }

    /// Answers the connect command, lets go what was held back, and does what waited.
    fn finish_connect(&mut self, step: &mut Step<'_>) -> Result<(), Disconnect> {
        let phase = std::mem::replace(&mut self.phase, Phase::Connected);
        let Phase::Connecting(connecting) = phase else { return Ok(()) };
        let connected = Connected {
            client: Arc::clone(self.client()),
            version: env!("CARGO_PKG_VERSION"),
            expiry: step.context.expiry(self.identity.expire_at),
            subscriptions: connecting.subscribed,
            ping_s: if self.is_pinged_by_messages() { step.context.rules.ping_s } else { 0 },
        };
        let outcome = Ok(Outcome::Connect(Box::new(connected)));
        step.push(Effect::TellFirst(Event::Reply { id: connecting.id, outcome }));
        self.set_wake(step);
        for subscription in self.subscriptions.iter().filter(|s| s.is_announced) {
            let info = self.info(subscription.info.clone());
            step.push(Effect::Announce(subscription.channel.clone(), Kind::Join, info));
        }
        self.take_waiting(connecting.waiting, step)
    }

    /// Tells a client why it is not let in; unless it goes itself it is closed when it has had time
    /// to read that.
    pub(super) fn refuse_connect(
        &mut self,
        error: ClientError,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let Phase::Connecting(connecting) = &self.phase else { return Ok(()) };
        let id = connecting.id;
        self.end_subscriptions(step);
        step.push(Effect::DropHeldBack);
        self.phase = Phase::Refused(step.context.clock.now() + REFUSAL_GRACE);
        step.push(Effect::TellFirst(Event::Reply { id, outcome: Err(error) }));
        self.set_wake(step);
        Ok(())
    }

    /// When a client that is not in has to be closed.
    pub(super) fn connect_by(&self) -> Option<Instant> {
        match self.phase {
            Phase::Fresh(by) | Phase::Refused(by) => Some(by),
            Phase::Connecting(_) | Phase::Connected => None,
        }
    }
}

/// The channel of this name, if the user may enter it by itself. One that it may not, or no longer,
/// is no reason to keep it out.
fn may_begin_in(name: &str, user: &str, step: &Step<'_>) -> Option<ChannelName> {
    let channel = ChannelName::new(name).ok()?;
    let asker = rights::Asker { user, trust: step.context.rules.trust };
    let right = rights::subscribe(step.context.namespaces, &channel, asker, Proof::Nothing);
    right.is_ok().then_some(channel)
}

/// A subscription that begins without a command of its own.
pub(super) fn server_side_subscription(
    channel: &ChannelName,
    subscriber: &SubscriptionOptions,
    resumes: Option<&command::Resume>,
    user: &str,
    answer_to: AnswerTo,
    step: &Step<'_>,
) -> Result<Wanted, ClientError> {
    let options = step.context.namespaces.options(channel).ok_or(ClientError::UnknownChannel)?;
    let options = overridden(options, subscriber.overrides);
    let asker = rights::Asker { user, trust: step.context.rules.trust };
    let features = rights::features(&options, asker, Features::default());
    let resumes = resumes.filter(|_| features.recoverable);
    let joining = Joining {
        was_recovering: resumes.is_some(),
        data: subscriber.data.clone(),
        ..Joining::new(answer_to)
    };
    Ok(Wanted {
        retention: options.retention(),
        resume: resumes.map(|asked| resume(&options, asked, step.context.rules)),
        subscription: Subscription {
            channel: channel.clone(),
            state: State::Joining(Box::new(joining)),
            side: Side::Server,
            is_named_by_token: false,
            features,
            is_announced: options.join_leave,
            is_present: options.presence,
            info: subscriber.info.clone(),
            token: None,
            expire_at: None,
        },
    })
}

fn anonymous() -> ConnectionClaims {
    ConnectionClaims {
        user: Arc::from(""),
        expire_at: None,
        issued_at: None,
        token_id: None,
        info: None,
        meta: None,
        subscriptions: BTreeMap::new(),
    }
}
