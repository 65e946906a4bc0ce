//! A session: what a client of the Centrifuge dialect is and has. A machine without I/O: inputs go
//! in at one door, [`Session::handle`], and what is to be done comes out as [`Effects`], in order.
//! Whoever drives it carries them out, and brings the answers to what the session asked for
//! ([`Inquiry`]) whenever they are there, in any order.
//!
//! Everything that takes time is waited for in one way, whoever answers: a signature check, Redis,
//! or a table beside it. Answers may come late, twice or never; a session takes the first one.

mod asking;
mod commands;
mod connect;
mod context;
mod deadline;
mod effect;
mod entry;
mod input;
mod metering;
#[cfg(any(test, feature = "conformance"))]
pub mod model;
mod orders;
mod publish;
mod refresh;
mod renewal;
mod subscribe;
mod subscription;
#[cfg(test)]
mod tests;
mod unsubscribe;
mod waiting;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use self::{asking::Asking, effect::Step, metering::Metering, waiting::Waiting};
pub use self::{
    asking::Ticket,
    context::{Clock, Context, Meter, Rules},
    effect::{Effect, Effects, Join},
    input::{Answer, Input, Inquiry, Place},
    subscription::{Side, Subscription},
};
use crate::{
    auth::revocation::Revocations,
    channel::ChannelName,
    command,
    error::{ClientError, Disconnect},
    event::Subscribed,
    publication::{ClientInfo, Encoding},
    rights::{Asker, Membership},
};

/// See the module's text.
#[derive(Debug)]
pub struct Session {
    encoding: Encoding,
    phase: Phase,
    identity: Identity,
    /// Usually one or a few, at most [`Rules::channels_max`]: a search is as good as a table.
    subscriptions: Vec<Subscription>,
    asking: Asking,
    pings: Pings,
    /// What it has caused, if that is counted.
    metering: Option<Box<Metering>>,
    /// Subscription tokens that were none.
    bad_tokens: u8,
    /// It was told to end, and no command counts any more.
    ends: bool,
}

/// How far a client has come.
#[derive(Debug)]
enum Phase {
    /// It has to say who it is by then.
    Fresh(Instant),
    /// It said so, and is being let in.
    Connecting(Box<Connecting>),
    /// It is in.
    Connected,
    /// It was told why it is not let in, and nothing it sends counts any more.
    Refused(Instant),
}

/// A connect command that is being answered.
#[derive(Debug)]
struct Connecting {
    /// The command's number.
    id: u32,
    /// Channels that the client wants to be in, and where it was in them.
    channels: Vec<(String, Option<command::Resume>)>,
    /// What the client sent meanwhile.
    waiting: Waiting,
    /// Server-side subscriptions to come.
    outstanding: usize,
    /// ... and those that stand, with the notice to others that is due.
    subscribed: Vec<(ChannelName, Subscribed)>,
}

/// Who a client is, as its token says.
#[derive(Clone, Debug)]
struct Identity {
    /// Its id among all clients of all nodes; empty before it is in.
    client: Arc<str>,
    user: Arc<str>,
    info: Option<Bytes>,
    token: TokenMark,
    /// When its token runs out, in unix seconds.
    expire_at: Option<u64>,
}

/// Which token a right came by: it ends when the token is revoked.
#[derive(Clone, Debug, Default)]
struct TokenMark {
    id: Option<Arc<str>>,
    issued_at: Option<u64>,
}

impl TokenMark {
    fn is_revoked(&self, user: &str, revocations: &Revocations) -> bool {
        revocations.is_revoked(user, self.id.as_deref(), self.issued_at)
    }
}

/// How a client is asked whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pings {
    /// By WebSocket frames.
    Frames,
    /// By messages of the protocol, of which so many are unanswered.
    Messages(u8),
}

/// What became of a command: done, or under way; or an error for the client; or its end.
type Done = Result<(), Refusal>;

/// Why a command is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The client is told.
    Error(ClientError),
    /// The client is closed.
    Disconnect(Disconnect),
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self::Error(error)
    }
}

impl From<Disconnect> for Refusal {
    fn from(why: Disconnect) -> Self {
        Self::Disconnect(why)
    }
}

impl Session {
    /// A session whose client has to say who it is by `connect_by`.
    #[must_use]
    pub fn new(encoding: Encoding, pings_by_frames: bool, connect_by: Instant) -> Self {
        Self {
            encoding,
            phase: Phase::Fresh(connect_by),
            identity: Identity::nobody(),
            subscriptions: Vec::new(),
            asking: Asking::default(),
            pings: if pings_by_frames { Pings::Frames } else { Pings::Messages(0) },
            metering: None,
            bad_tokens: 0,
            ends: false,
        }
    }

    /// Takes one input; what is to be done is added to `effects`. Behind [`Effect::End`] there is
    /// nothing more of this input.
    pub fn handle(&mut self, input: Input<'_>, context: &Context<'_>, effects: &mut Effects) {
        let step = &mut Step { context, effects };
        let outcome = match input {
            Input::Command(command) => self.take_command(command, step),
            Input::Answer(ticket, answer) => self.take_answer(ticket, answer, step),
            Input::Joined(joined, place) => self.stand(joined, place, step),
            Input::NotJoined(channel, error) => self.not_joined(channel, error, step),
            Input::Published(id, outcome) => {
                Self::published(id, outcome, step);
                Ok(())
            }
            Input::Turned(channel, turn) => self.turned(channel, turn, step),
            Input::Order(order) => self.obey(order, step),
            Input::Revoked(revocations) => self.end_revoked(revocations, step),
            Input::Deadline => self.wake(step),
            Input::Closed => {
                self.close(step);
                Ok(())
            }
        };
        if let Err(why) = outcome {
            self.ends = true;
            step.effects.push(Effect::End(why));
        }
    }

    /// What the client can read.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The client's id; empty before it is in.
    #[must_use]
    pub fn client(&self) -> &Arc<str> {
        &self.identity.client
    }

    /// The client's user; empty = nobody in particular.
    #[must_use]
    pub fn user(&self) -> &Arc<str> {
        &self.identity.user
    }

    /// Whether the client is in.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Whether the client is asked by messages of the protocol whether it is there.
    #[must_use]
    pub fn is_pinged_by_messages(&self) -> bool {
        matches!(self.pings, Pings::Messages(_))
    }

    /// Notes that a ping is on its way.
    pub fn note_ping(&mut self) {
        if let Pings::Messages(unanswered) = &mut self.pings {
            *unanswered = unanswered.saturating_add(1);
        }
    }

    /// The client's subscriptions, those that do not stand yet included.
    #[must_use]
    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    fn subscription(&self, channel: &ChannelName) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| subscription.channel == *channel)
    }

    fn subscription_mut(&mut self, channel: &ChannelName) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.channel == *channel)
    }

    fn add_subscription(&mut self, subscription: Subscription) {
        if self.subscriptions.is_empty() {
            // Room for four is what a list takes by itself, and most clients have one.
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription);
    }

    fn remove_subscription(&mut self, channel: &ChannelName) -> Option<Subscription> {
        let is_it = |subscription: &Subscription| subscription.channel == *channel;
        let place = self.subscriptions.iter().position(is_it)?;
        Some(self.subscriptions.swap_remove(place))
    }

    fn asker<'a>(&'a self, rules: &Rules) -> Asker<'a> {
        Asker { user: &self.identity.user, trust: rules.trust }
    }

    fn membership(&self, channel: &ChannelName) -> Membership {
        match self.subscription(channel) {
            Some(_) => Membership::Subscriber,
            None => Membership::Outsider,
        }
    }

    /// What others see of the client in a channel.
    fn info(&self, chan_info: Option<Bytes>) -> ClientInfo {
        ClientInfo {
            user: Arc::clone(&self.identity.user),
            client: Arc::clone(&self.identity.client),
            conn_info: self.identity.info.clone(),
            chan_info,
        }
    }
}

impl Identity {
    /// Nobody yet.
    fn nobody() -> Self {
        thread_local! {
            static EMPTY: Arc<str> = Arc::from("");
        }
        let empty = EMPTY.with(Arc::clone);
        Self {
            client: Arc::clone(&empty),
            user: empty,
            info: None,
            token: TokenMark::default(),
            expire_at: None,
        }
    }
}

/// A channel as a command names it.
///
/// # Errors
/// [`ClientError::BadRequest`] when there can be no such channel.
fn channel_name(name: &str) -> Result<ChannelName, ClientError> {
    ChannelName::new(name).map_err(|_| ClientError::BadRequest)
}
