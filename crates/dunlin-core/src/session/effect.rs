//! What is to be done of what a session decided.

use std::{sync::Arc, time::Instant};

use super::{Context, Inquiry, Ticket};
use crate::{
    broker::Publish,
    channel::ChannelName,
    error::{ClientError, Disconnect},
    event::{Event, Outcome},
    hub::SubscriptionId,
    limits::{Deed, Scope},
    namespace::Retention,
    presence::Farewell,
    publication::{ClientInfo, Kind},
    stream::Resume,
};

/// One thing to be done. The order of effects counts.
#[derive(Debug)]
pub enum Effect {
    /// Tell the client this.
    Tell(Event),
    /// Keep what the client would get from now on, until [`Effect::TellFirst`].
    HoldBack,
    /// Tell the client this, and then what was held back.
    TellFirst(Event),
    /// Forget what was held back; [`Effect::TellFirst`] follows.
    DropHeldBack,
    /// Find this out, and bring the answer with this ticket.
    Ask(Ticket, Inquiry),
    /// Publish for the client's command of this number, and bring the outcome.
    Publish(Publish, u32),
    /// Enter presence, and ask for a place in the channel's order; then bring it, or the error.
    Join(Box<Join>),
    /// Give back a place.
    Leave(SubscriptionId),
    /// Have a channel's presence show this of the client, which it shows already.
    Appear(ChannelName, ClientInfo, Farewell),
    /// Take the client with this id out of a channel's presence.
    Disappear(ChannelName, Arc<str>),
    /// Tell a channel's other members that the client came or went.
    Announce(ChannelName, Kind, ClientInfo),
    /// Bring [`Input::Deadline`](super::Input::Deadline) then, and not when it was said before;
    /// none = never.
    WakeAt(Option<Instant>),
    /// Count for the operator what is refused since it was done too often, and by whose bound.
    Limited(Deed, Scope),
    /// Note for the operator why something is refused.
    Note(&'static str),
    /// The user with this name has one connection less.
    Dismiss(Arc<str>),
    /// End the connection as its client should be told.
    End(Disconnect),
    /// End the connection in the words of the application: close code and reason.
    EndWith(u32, Box<str>),
}

impl Effect {
    /// Whether it only begins something, which is not worth it for a client that has ended.
    #[must_use]
    pub fn is_beginning(&self) -> bool {
        matches!(
            self,
            Self::Ask(..) | Self::Join(_) | Self::Appear(..) | Self::Announce(_, Kind::Join, _)
        )
    }
}

/// What has to be done for a subscription.
#[derive(Debug)]
pub struct Join {
    /// To what.
    pub channel: ChannelName,
    /// What is kept of it; none = nothing.
    pub retention: Option<Retention>,
    /// Where the client goes on from; none = from now on.
    pub resume: Option<Resume>,
    /// What presence shows of it, and whether its end is announced; none = nothing is shown.
    pub presence: Option<(ClientInfo, Farewell)>,
}

/// Effects, in order.
pub type Effects = Vec<Effect>;

/// One input's way through a session.
pub(super) struct Step<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) effects: &'a mut Effects,
}

impl Step<'_> {
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.effects.push(Effect::Tell(event));
    }

    /// Answers a command. A command with the number 0 wants no answer.
    pub(super) fn reply(&mut self, id: u32, outcome: Result<Outcome, ClientError>) {
        if id != 0 {
            self.tell(Event::Reply { id, outcome });
        }
    }
}
