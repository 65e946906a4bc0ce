//! A session's membership of a channel.

use std::sync::Arc;

use bytes::Bytes;

use super::{TokenMark, waiting::Waiting};
use crate::{
    auth::claims::Overrides,
    channel::ChannelName,
    event::Unsubscribe,
    filter::TagsFilter,
    hub::{Manner, SubscriptionId},
    namespace::ChannelOptions,
    presence::Farewell,
    publication::{Delta, Dialect, Encoding, Format, PushFormat},
    rights::Features,
};

/// One channel of a session.
#[derive(Debug)]
pub struct Subscription {
    /// Which one.
    pub channel: ChannelName,
    /// Who asked for it.
    pub side: Side,
    /// It came by the connection's token, and ends by one that does not name it.
    pub(super) is_named_by_token: bool,
    pub(super) state: State,
    pub(super) features: Features,
    /// Its coming and going is told to others.
    pub(super) is_announced: bool,
    /// Presence shows it.
    pub(super) is_present: bool,
    /// What others see of the client in this channel only.
    pub(super) info: Option<Bytes>,
    /// The token that it came by; none when it needed none.
    pub(super) token: Option<Box<TokenMark>>,
    /// When its token runs out, in unix seconds.
    pub(super) expire_at: Option<u64>,
}

impl Subscription {
    /// Whether others are told when it ends with its node.
    pub(super) fn farewell(&self) -> Farewell {
        match self.is_announced {
            true => Farewell::Announced,
            false => Farewell::Silent,
        }
    }

    /// What the commands weigh that wait until it stands.
    pub(super) fn waiting_bytes(&self) -> usize {
        match &self.state {
            State::Joining(joining) => joining.waiting.bytes(),
            State::Standing(_) => 0,
        }
    }
}

/// Who asked for a subscription, and so who can be told when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The application.
    Server,
}

#[derive(Debug)]
pub(super) enum State {
    /// Its place in the channel's order is on its way.
    Joining(Box<Joining>),
    /// It stands.
    Standing(SubscriptionId),
}

/// What has to be known when the place is there.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) answer_to: AnswerTo,
    pub(super) was_recovering: bool,
    /// An error is wanted instead of a fresh start.
    pub(super) rejects_unrecovered: bool,
    pub(super) wants_number: bool,
    pub(super) wants_delta: bool,
    pub(super) filter: Option<Arc<TagsFilter>>,
    /// What the application tells the subscriber.
    pub(super) data: Option<Bytes>,
    /// Why it ends as soon as it stands, if somebody wanted that meanwhile.
    pub(super) ended: Option<Unsubscribe>,
    /// What the client sent meanwhile that concerns the channel.
    pub(super) waiting: Waiting,
}

/// Who wants to know that a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerTo {
    /// The client, as the reply to this command.
    Command(u32),
    /// The client, as part of the reply to its connect command.
    Connect,
    /// The client, which did not ask.
    Nobody,
}

impl Joining {
    pub(super) fn new(answer_to: AnswerTo) -> Self {
        Self {
            answer_to,
            was_recovering: false,
            rejects_unrecovered: false,
            wants_number: false,
            wants_delta: false,
            filter: None,
            data: None,
            ended: None,
            waiting: Waiting::default(),
        }
    }

    /// How the subscriber is served.
    pub(super) fn manner(
        &self,
        encoding: Encoding,
        is_deflated: bool,
        number: u32,
        hears_joins: bool,
    ) -> Manner {
        let push = PushFormat {
            encoding,
            number: self.wants_number.then_some(number),
            delta: if self.wants_delta { Delta::Full } else { Delta::Off },
        };
        let format = Format { dialect: Dialect::Centrifuge(push), is_deflated };
        Manner { format, hears_joins, filter: self.filter.clone() }
    }
}

/// The options of a channel as they are for one subscriber.
pub(super) fn overridden(options: &ChannelOptions, overrides: Overrides) -> ChannelOptions {
    let mut options = options.clone();
    let set = |option: &mut bool, value: Option<bool>| *option = value.unwrap_or(*option);
    set(&mut options.presence, overrides.presence);
    set(&mut options.join_leave, overrides.join_leave);
    set(&mut options.force_recovery, overrides.force_recovery);
    set(&mut options.force_positioning, overrides.force_positioning);
    set(&mut options.force_push_join_leave, overrides.force_push_join_leave);
    options
}
