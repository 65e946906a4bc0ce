//! What a new token changes beside the time: the channels that it names, and what others see of its
//! client.
//!
//! What it does not name any more ends, and what is new begins, each by a push: SDKs know both, and
//! a client that had to come again would miss what is not kept.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Effect, Refusal, Session, Subscription,
    connect::server_side_subscription,
    effect::Step,
    entry::Wanted,
    subscription::{AnswerTo, State},
};
use crate::{
    auth::claims::{ConnectionClaims, SubscriptionOptions},
    channel::ChannelName,
    error::{ClientError, Disconnect},
    event::Unsubscribe,
};

/// What a connection token names.
type Named = BTreeMap<ChannelName, SubscriptionOptions>;

impl Session {
    /// The subscriptions that a new token brings; or why it cannot be followed.
    pub(super) fn brought_by(
        &self,
        claims: &ConnectionClaims,
        step: &Step<'_>,
    ) -> Result<Vec<Wanted>, Refusal> {
        let rules = step.context.rules;
        let named = &claims.subscriptions;
        let is_new = |channel: &ChannelName| self.subscription(channel).is_none();
        let wanted =
            named.iter().filter(|(channel, _)| is_new(channel)).map(|(channel, options)| {
                let to = AnswerTo::Nobody;
                let wanted =
                    server_side_subscription(channel, options, None, &claims.user, to, step)?;
                Ok(wanted.named_by(claims, rules))
            });
        let wanted = wanted.collect::<Result<Vec<_>, ClientError>>()?;
        if named.len() > rules.channels_max {
            return Err(Disconnect::ChannelLimit.into());
        }
        let ending = self.unnamed(named).filter(|s| matches!(s.state, State::Standing(_)));
        if self.subscriptions.len() + wanted.len() > rules.channels_max + ending.count() {
            // When it comes again, these channels are the first and find room.
            return Err(Disconnect::PositionLost.into());
        }
        Ok(wanted)
    }

    /// Ends what a new token does not name any more, and begins what it brings.
    pub(super) fn follow_token(
        &mut self,
        named: &Named,
        brought: Vec<Wanted>,
        step: &mut Step<'_>,
    ) {
        for channel in self.unnamed(named).map(|s| s.channel.clone()).collect::<Vec<_>>() {
            self.unsubscribe(&channel, Unsubscribe::Server, step);
        }
        for (channel, options) in named {
            self.reveal_in(channel, options.info.as_ref(), step);
            let subscription = self.subscription_mut(channel).filter(|s| s.is_named_by_token);
            if let Some(State::Joining(joining)) = subscription.map(|s| &mut s.state) {
                // A token before this one wanted its end.
                joining.ended = None;
            }
        }
        for wanted in brought {
            self.join(wanted, step);
        }
    }

    /// The subscriptions that came by a token and are not named by the next one.
    fn unnamed(&self, named: &Named) -> impl Iterator<Item = &Subscription> {
        let subscriptions = self.subscriptions.iter().filter(|s| s.is_named_by_token);
        subscriptions.filter(|s| !named.contains_key(&s.channel))
    }

    /// Shows others something else of the client, if there is something else.
    pub(super) fn reveal(&mut self, conn_info: Option<&Bytes>, step: &mut Step<'_>) {
        if conn_info.is_some() && conn_info != self.identity.info.as_ref() {
            self.identity.info = conn_info.cloned();
            for subscription in &self.subscriptions {
                self.appear(subscription, step);
            }
        }
    }

    /// ... in one channel.
    pub(super) fn reveal_in(
        &mut self,
        channel: &ChannelName,
        chan_info: Option<&Bytes>,
        step: &mut Step<'_>,
    ) {
        if let Some(subscription) = self.subscription_mut(channel)
            && chan_info.is_some()
            && chan_info != subscription.info.as_ref()
        {
            subscription.info = chan_info.cloned();
        } else {
            return;
        }
        if let Some(subscription) = self.subscription(channel) {
            self.appear(subscription, step);
        }
    }

    /// Has presence show what there is to see by now.
    fn appear(&self, subscription: &Subscription, step: &mut Step<'_>) {
        if let Some((info, farewell)) = self.shown(subscription) {
            step.push(Effect::Appear(subscription.channel.clone(), info, farewell));
        }
    }
}
