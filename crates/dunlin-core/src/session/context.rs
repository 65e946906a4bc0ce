//! What a session sees of the world while it handles an input.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    channel::ChannelName,
    event::Expiry,
    limits::{Deed, Rate, Rates, Scope},
    namespace::{Namespaces, personal_channel},
    rights::Trust,
};

/// See the module's text.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What the operator decided about clients.
    pub rules: &'a Rules,
    /// ... and about channels.
    pub namespaces: &'a Namespaces,
    /// What time it is; asked where it matters only.
    pub clock: &'a dyn Clock,
    /// What else there is of what clients cause; asked where that is bounded only.
    pub meter: &'a dyn Meter,
}

/// Two clocks: one that never goes back, and the time of day.
pub trait Clock {
    /// Now.
    fn now(&self) -> Instant;
    /// Seconds since 1970.
    fn unix(&self) -> u64;
}

/// What is known beside a session of how much its client causes.
pub trait Meter {
    /// About how many subscribers a channel has on this node.
    fn subscribers(&self, channel: &ChannelName) -> u32;

    /// Counts a deed for this user and for the client's address.
    ///
    /// # Errors
    /// Who of them has done it too often.
    fn share(&self, user: &Arc<str>, deed: Deed, count: u32) -> Result<(), Scope>;

    /// Counts one more publication in a channel, unless there are more than this rate.
    fn may_publish(&self, channel: &ChannelName, rate: Rate) -> bool;
}

/// What the node's operator decided about clients.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether clients are asked for their rights.
    pub trust: Trust,
    /// Whether clients without a token are let in.
    pub allows_anonymous: bool,
    /// Seconds between pings of the protocol, as clients are told; 0 = there are none.
    pub ping_s: u32,
    /// How long a client may take to say who it is.
    pub connect_within: Duration,
    /// How long a connection outlives its token.
    pub connection_grace: Duration,
    /// How long a subscription outlives its token.
    pub subscription_grace: Duration,
    /// Most subscriptions of one client.
    pub channels_max: usize,
    /// Most publications of one answer to a question for history.
    pub history_max: usize,
    /// Most publications that one subscriber is given of what it missed.
    pub recovery_max: usize,
    /// How much one client may cause.
    pub rates: Rates,
    /// Whether anything is bounded of what clients cause, alone or together.
    pub is_metered: bool,
    /// The namespace of users' own channels; none = they have none.
    pub personal_namespace: Option<String>,
}

impl Rules {
    /// The channel that is a user's own.
    pub(super) fn personal_channel(&self, user: &str) -> Option<ChannelName> {
        personal_channel(self.personal_namespace.as_deref()?, user)
    }
}

impl Context<'_> {
    /// In how many seconds a new token is due.
    pub(super) fn expiry(&self, expire_at: Option<u64>) -> Expiry {
        let left = expire_at.map(|at| at.saturating_sub(self.clock.unix()).max(1));
        Expiry(left.map(|left| u32::try_from(left).unwrap_or(u32::MAX)))
    }
}
