//! Deadlines: what happens to a session when its time comes. It says when the earliest one is.

use std::time::{Duration, Instant};

use super::{Context, Effect, Session, Side, effect::Step};
use crate::{channel::ChannelName, error::Disconnect, event::Unsubscribe};

impl Session {
    /// When the session wants to be woken, if ever.
    #[must_use]
    pub fn wakes_at(&self, context: &Context<'_>) -> Option<Instant> {
        let Context { rules, clock, .. } = context;
        let after = |expire_at: Option<u64>, grace| {
            let left = Duration::from_secs(left(expire_at?, grace, clock.unix()));
            // What is further away than clocks reach never comes.
            clock.now().checked_add(left)
        };
        let connection = after(self.identity.expire_at, rules.connection_grace);
        let subscriptions = self.subscriptions.iter();
        let subscriptions =
            subscriptions.filter_map(|s| after(s.expire_at, rules.subscription_grace));
        [self.connect_by(), connection].into_iter().flatten().chain(subscriptions).min()
    }

    pub(super) fn set_wake(&self, step: &mut Step<'_>) {
        step.push(Effect::WakeAt(self.wakes_at(step.context)));
    }

    /// Looks at what is over by now.
    pub(super) fn wake(&mut self, step: &mut Step<'_>) -> Result<(), Disconnect> {
        let Context { rules, clock, .. } = *step.context;
        if self.connect_by().is_some_and(|by| by <= clock.now()) {
            return Err(Disconnect::Stale);
        }
        let unix = clock.unix();
        let is_over = |expire_at: Option<u64>, grace| {
            expire_at.is_some_and(|expire_at| left(expire_at, grace, unix) == 0)
        };
        if is_over(self.identity.expire_at, rules.connection_grace) {
            return Err(Disconnect::Expired);
        }
        let over = self.subscriptions.iter();
        let over = over.filter(|s| is_over(s.expire_at, rules.subscription_grace));
        let over: Vec<(ChannelName, Side)> = over.map(|s| (s.channel.clone(), s.side)).collect();
        for (channel, side) in over {
            match side {
                Side::Client => self.unsubscribe(&channel, Unsubscribe::Expired, step),
                Side::Server => return Err(Disconnect::SubscriptionExpired),
            }
        }
        self.set_wake(step);
        Ok(())
    }
}

/// Seconds until a token that expires is over for good, its grace included.
fn left(expire_at: u64, grace: Duration, unix: u64) -> u64 {
    expire_at.saturating_add(grace.as_secs()).saturating_sub(unix)
}
