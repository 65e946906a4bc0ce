//! Who may do what in a channel, by the options of its namespace. Pure: what a token says and who
//! is subscribed is found out elsewhere and comes in as an argument.

use std::sync::Arc;

use crate::{
    channel::ChannelName,
    error::ClientError,
    namespace::{ChannelOptions, Namespaces, allowed_users, is_private},
};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Its user; empty = anonymous.
    pub user: &'a str,
    /// Whether it is asked for its rights at all.
    pub trust: Trust,
}

/// Whether rights are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They are.
    Checked,
    /// They are not, but for private channels: the mode for trials, `client.insecure`.
    Insecure,
}

/// What an asker brings to enter a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing but itself.
    Nothing,
    /// A subscription token, verified to be for this user and this channel.
    Token,
}

/// Whether an asker is in the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is subscribed.
    Subscriber,
    /// It is not.
    Outsider,
}

/// What a subscription may be beside a flow of publications: as wanted, or as granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// It is told when its position in the stream is lost.
    pub positioned: bool,
    /// It can go on where it was after a cut. Granted only together with `positioned`.
    pub recoverable: bool,
    /// It is told who comes and goes.
    pub join_leave: bool,
}

/// The options of a channel, if there can be one of this name.
///
/// # Errors
/// [`ClientError::UnknownChannel`] without such a namespace, [`ClientError::BadRequest`] when the
/// namespace wants other names.
pub fn known<'a>(
    namespaces: &'a Namespaces,
    channel: &ChannelName,
) -> Result<&'a Arc<ChannelOptions>, ClientError> {
    let options = namespaces.options(channel).ok_or(ClientError::UnknownChannel)?;
    if options.fits(channel) { Ok(options) } else { Err(ClientError::BadRequest) }
}

/// Whether the asker may enter the channel; then its options.
///
/// # Errors
/// As [`known`], and [`ClientError::PermissionDenied`].
pub fn subscribe<'a>(
    namespaces: &'a Namespaces,
    channel: &ChannelName,
    asker: Asker<'_>,
    proof: Proof,
) -> Result<&'a Arc<ChannelOptions>, ClientError> {
    let options = known(namespaces, channel)?;
    let may = match proof {
        Proof::Token => true,
        Proof::Nothing if is_private(channel) => false,
        Proof::Nothing => may_enter_without_token(options, channel, asker),
    };
    allow(options, may)
}

fn may_enter_without_token(
    options: &ChannelOptions,
    channel: &ChannelName,
    asker: Asker<'_>,
) -> bool {
    let may = match allowed_users(channel) {
        // A channel of some users is nobody else's, also where the option is off that lets them
        // in: else to open other channels would open everyone's personal one.
        Some(mut users) => {
            options.allow_user_limited_channels
                && !asker.user.is_empty()
                && users.any(|user| user == asker.user)
        }
        None => {
            let allows_asker = !asker.user.is_empty() || options.allow_subscribe_for_anonymous;
            options.allow_subscribe_for_client && allows_asker
        }
    };
    may || asker.trust == Trust::Insecure
}

/// Whether the asker may publish to the channel; then its options.
///
/// # Errors
/// As [`subscribe`].
pub fn publish<'a>(
    namespaces: &'a Namespaces,
    channel: &ChannelName,
    asker: Asker<'_>,
    membership: Membership,
) -> Result<&'a Arc<ChannelOptions>, ClientError> {
    let options = known(namespaces, channel)?;
    let rule = Rule {
        for_subscriber: options.allow_publish_for_subscriber,
        for_client: options.allow_publish_for_client,
        for_anonymous: options.allow_publish_for_anonymous,
    };
    allow(options, rule.allows(asker, membership))
}

/// Whether the asker may know who is in the channel; then its options.
///
/// # Errors
/// As [`subscribe`], and [`ClientError::NotAvailable`] when the channel has no presence.
pub fn presence<'a>(
    namespaces: &'a Namespaces,
    channel: &ChannelName,
    asker: Asker<'_>,
    membership: Membership,
) -> Result<&'a Arc<ChannelOptions>, ClientError> {
    let options = known(namespaces, channel)?;
    if !options.presence {
        return Err(ClientError::NotAvailable);
    }
    allow(options, presence_rule(options).allows(asker, membership))
}

/// Whether the asker may read the channel's history; then its options.
///
/// # Errors
/// As [`subscribe`], and [`ClientError::NotAvailable`] when the channel has no history.
pub fn history<'a>(
    namespaces: &'a Namespaces,
    channel: &ChannelName,
    asker: Asker<'_>,
    membership: Membership,
) -> Result<&'a Arc<ChannelOptions>, ClientError> {
    let options = known(namespaces, channel)?;
    if options.retention().is_none() {
        return Err(ClientError::NotAvailable);
    }
    allow(options, history_rule(options).allows(asker, membership))
}

/// What of `wanted` a subscription gets, and what it gets without having asked. The asker has
/// entered: [`subscribe`] said yes, or the application subscribed it.
#[must_use]
pub fn features(options: &ChannelOptions, asker: Asker<'_>, wanted: Features) -> Features {
    let has_history = options.retention().is_some();
    let may_read = history_rule(options).allows(asker, Membership::Subscriber);
    let may_see = presence_rule(options).allows(asker, Membership::Subscriber);
    let may_recover = options.allow_recovery || may_read;
    let may_position = options.allow_positioning || may_read;
    let recoverable = options.force_recovery || (wanted.recoverable && may_recover);
    let positioned = options.force_positioning || (wanted.positioned && may_position);
    let join_leave = options.force_push_join_leave || (wanted.join_leave && may_see);
    Features {
        recoverable: has_history && recoverable,
        positioned: has_history && (recoverable || positioned),
        join_leave: options.join_leave && join_leave,
    }
}

/// Whether a client of the plain dialect may join the channel; then its options, which say whether
/// it may publish.
///
/// # Errors
/// As [`subscribe`].
pub fn plain<'a>(
    namespaces: &'a Namespaces,
    channel: &ChannelName,
) -> Result<&'a Arc<ChannelOptions>, ClientError> {
    let options = known(namespaces, channel)?;
    allow(options, options.allow_plain_subscribe)
}

/// Three options that belong together.
struct Rule {
    for_subscriber: bool,
    for_client: bool,
    for_anonymous: bool,
}

impl Rule {
    fn allows(&self, asker: Asker<'_>, membership: Membership) -> bool {
        let as_member = self.for_subscriber && membership == Membership::Subscriber;
        let allows_asker = !asker.user.is_empty() || self.for_anonymous;
        ((self.for_client || as_member) && allows_asker) || asker.trust == Trust::Insecure
    }
}

fn presence_rule(options: &ChannelOptions) -> Rule {
    Rule {
        for_subscriber: options.allow_presence_for_subscriber,
        for_client: options.allow_presence_for_client,
        for_anonymous: options.allow_presence_for_anonymous,
    }
}

fn history_rule(options: &ChannelOptions) -> Rule {
    Rule {
        for_subscriber: options.allow_history_for_subscriber,
        for_client: options.allow_history_for_client,
        for_anonymous: options.allow_history_for_anonymous,
    }
}

fn allow(options: &Arc<ChannelOptions>, may: bool) -> Result<&Arc<ChannelOptions>, ClientError> {
    if may { Ok(options) } else { Err(ClientError::PermissionDenied) }
}

#[cfg(test)]
mod tests;
