//! What the application orders of clients, wherever they are.

use super::{
    Effect, Session, TokenMark, connect::server_side_subscription, effect::Step,
    subscription::AnswerTo,
};
use crate::{
    auth::revocation::Revocations,
    channel::ChannelName,
    control::{self, Order},
    error::Disconnect,
    event::{Event, Unsubscribe},
};

impl Session {
    /// Obeys an order if it is for this client.
    pub(super) fn obey(&mut self, order: &Order, step: &mut Step<'_>) -> Result<(), Disconnect> {
        let is_meant = |whom: &control::Whom| whom.includes(self.user(), self.client());
        match order {
            Order::Disconnect(order) if order.includes(self.user(), self.client()) => {
                self.ends = true;
                step.push(Effect::EndWith(order.code, order.reason.clone()));
            }
            Order::Unsubscribe(order) if is_meant(&order.whom) => {
                self.unsubscribe_from(order.channel.as_ref(), step);
            }
            Order::Subscribe(order) if is_meant(&order.whom) => self.subscribe_to(order, step),
            Order::Refresh(order) if is_meant(&order.whom) => {
                return self.refresh_by_order(order, step);
            }
            // It is about others, about no client, or comes with all that is revoked.
            _ => {}
        }
        Ok(())
    }

    fn unsubscribe_from(&mut self, only: Option<&ChannelName>, step: &mut Step<'_>) {
        let names = self.subscriptions.iter().map(|s| &s.channel);
        let meant = names.filter(|name| only.is_none_or(|only| only == *name));
        for channel in meant.cloned().collect::<Vec<_>>() {
            self.unsubscribe(&channel, Unsubscribe::Server, step);
        }
    }

    fn subscribe_to(&mut self, order: &control::Subscribe, step: &mut Step<'_>) {
        let has_room = self.subscriptions.len() < step.context.rules.channels_max;
        let is_subscribed = self.subscription(&order.channel).is_some();
        if !self.is_connected() || is_subscribed || !has_room {
            return;
        }
        let wanted = server_side_subscription(
            &order.channel,
            &order.options,
            order.recover_since.as_ref(),
            &order.whom.user,
            AnswerTo::Nobody,
            step,
        );
        if let Ok(mut wanted) = wanted {
            wanted.subscription.expire_at = order.expire_at;
            self.join(wanted, step);
        }
    }

    fn refresh_by_order(
        &mut self,
        order: &control::Refresh,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let is_over = order.expire_at.is_some_and(|at| at <= step.context.clock.unix());
        if order.expired || is_over {
            return Err(Disconnect::Expired);
        }
        self.identity.expire_at = order.expire_at;
        self.reveal(order.info.as_ref(), step);
        self.set_wake(step);
        step.tell(Event::Refreshed(step.context.expiry(order.expire_at)));
        Ok(())
    }

    /// Ends what came by a token that does not count any more.
    pub(super) fn end_revoked(
        &mut self,
        revocations: &Revocations,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let user = &self.identity.user;
        if self.identity.token.is_revoked(user, revocations) {
            return Err(Disconnect::InvalidToken);
        }
        let is_revoked = |token: &TokenMark| token.is_revoked(user, revocations);
        let revoked = self.subscriptions.iter();
        let revoked = revoked.filter(|s| s.token.as_deref().is_some_and(is_revoked));
        for channel in revoked.map(|s| s.channel.clone()).collect::<Vec<_>>() {
            self.unsubscribe(&channel, Unsubscribe::Server, step);
        }
        Ok(())
    }
}
