//! The ends of subscriptions, whoever wants them.

use std::{mem, sync::Arc};

use super::{Effect, Identity, Session, Side, Subscription, effect::Step, subscription::State};
use crate::{
    channel::ChannelName,
    error::Disconnect,
    event::{Event, Push, Unsubscribe},
    publication::Kind,
    stream::Turn,
};

impl Session {
    /// Ends a subscription. False when there is none.
    pub(super) fn end_subscription(&mut self, channel: &ChannelName, step: &mut Step<'_>) -> bool {
        let Some(subscription) = self.remove_subscription(channel) else { return false };
        self.leave_channel(&subscription, step);
        true
    }

    /// Ends all subscriptions of a client that goes.
    pub(super) fn end_subscriptions(&mut self, step: &mut Step<'_>) {
        for subscription in &mem::take(&mut self.subscriptions) {
            self.leave_channel(subscription, step);
        }
    }

    /// Takes a subscriber out of the hub and out of the sight of others.
    fn leave_channel(&self, subscription: &Subscription, step: &mut Step<'_>) {
        let State::Standing(place) = subscription.state else {
            return self.disappear(subscription, step);
        };
        step.push(Effect::Leave(place));
        self.disappear(subscription, step);
        // Before its client is in, nobody was told that it came.
        if subscription.is_announced && self.is_connected() {
            let info = self.info(subscription.info.clone());
            step.push(Effect::Announce(subscription.channel.clone(), Kind::Leave, info));
        }
    }

    /// Takes a subscriber out of presence.
    pub(super) fn disappear(&self, subscription: &Subscription, step: &mut Step<'_>) {
        if subscription.is_present {
            let client = Arc::clone(&self.identity.client);
            step.push(Effect::Disappear(subscription.channel.clone(), client));
        }
    }

    /// Ends a subscription that the client did not end, and tells it: one that is not there yet as
    /// soon as it is, for the client waits to hear of it.
    pub(super) fn unsubscribe(
        &mut self,
        channel: &ChannelName,
        why: Unsubscribe,
        step: &mut Step<'_>,
    ) {
        if let Some(subscription) = self.subscription_mut(channel)
            && let State::Joining(joining) = &mut subscription.state
        {
            // Its place is on its way and would be taken for that of the next one.
            joining.ended = Some(why);
            return;
        }
        if self.end_subscription(channel, step) {
            step.tell(Event::Push(channel.clone(), Push::Unsubscribe(why)));
        }
    }

    /// Something happened to a channel: the client is told if that concerns it.
    pub(super) fn turned(
        &mut self,
        channel: &ChannelName,
        turn: Turn,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        if turn == Turn::Dropped {
            // There is no position that could bring back what it missed, nor a way to tell it of
            // one subscription alone.
            return Err(Disconnect::PositionLost);
        }
        let is_concerned = |s: &&Subscription| turn == Turn::Refused || s.features.positioned;
        match self.subscription(channel).filter(is_concerned).map(|s| s.side) {
            None => Ok(()),
            Some(Side::Server) => Err(Disconnect::PositionLost),
            Some(Side::Client) => {
                self.unsubscribe(channel, Unsubscribe::PositionLost, step);
                Ok(())
            }
        }
    }

    /// Forgets all, when its connection has ended.
    pub(super) fn close(&mut self, step: &mut Step<'_>) {
        self.ends = true;
        self.end_subscriptions(step);
        self.asking.forget();
        step.push(Effect::WakeAt(None));
        if !self.identity.client.is_empty() {
            let identity = mem::replace(&mut self.identity, Identity::nobody());
            step.push(Effect::Dismiss(identity.user));
        }
    }
}
