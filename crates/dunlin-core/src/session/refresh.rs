//! New tokens for connections and subscriptions whose time runs out.

use super::{
    Done, Effect, Inquiry, Refusal, Session, TokenMark, asking::Next, channel_name, effect::Step,
};
use crate::{
    auth::{
        TokenError,
        claims::{ConnectionClaims, SubscriptionClaims},
    },
    channel::ChannelName,
    error::{ClientError, Disconnect},
    event::Outcome,
};

impl Session {
    /// Lets a client stay by a new token, and be in the channels that it names.
    pub(super) fn refresh(&mut self, id: u32, token: String, step: &mut Step<'_>) -> Done {
        if token.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        self.ask(Inquiry::ConnectionToken(token), Next::Refresh(id), step)
    }

    /// Goes on with what the new token says.
    pub(super) fn refresh_with(
        &mut self,
        id: u32,
        claims: Result<Box<ConnectionClaims>, TokenError>,
        step: &mut Step<'_>,
    ) -> Done {
        let claims = claims.map_err(|error| match error {
            TokenError::Expired | TokenError::NotYet => Disconnect::Expired.into(),
            error => refusal(&error),
        })?;
        if claims.user != self.identity.user {
            step.push(Effect::Note("connection token refused: not for this user"));
            return Err(Disconnect::InvalidToken.into());
        }
        let brought = self.brought_by(&claims, step)?;
        let claims = *claims;
        self.reveal(claims.info.as_ref(), step);
        let identity = &mut self.identity;
        identity.expire_at = claims.expire_at;
        identity.token = TokenMark { id: claims.token_id, issued_at: claims.issued_at };
        self.set_wake(step);
        let expiry = step.context.expiry(claims.expire_at);
        step.reply(id, Ok(Outcome::Refresh(expiry)));
        self.follow_token(&claims.subscriptions, brought, step);
        Ok(())
    }

    /// Lets a subscription stand by a new token.
    pub(super) fn refresh_subscription(
        &mut self,
        id: u32,
        channel: &str,
        token: String,
        step: &mut Step<'_>,
    ) -> Done {
        let channel = channel_name(channel)?;
        if self.subscription(&channel).is_none() {
            return Err(ClientError::PermissionDenied.into());
        }
        if token.is_empty() {
            return Err(ClientError::BadRequest.into());
        }
        let next = Next::RefreshSubscription(id, channel);
        self.ask(Inquiry::SubscriptionToken(token), next, step)
    }

    /// Goes on with what the new token says. A subscription that has ended meanwhile needs none.
    pub(super) fn refresh_subscription_with(
        &mut self,
        id: u32,
        channel: &ChannelName,
        claims: Result<Box<SubscriptionClaims>, TokenError>,
        step: &mut Step<'_>,
    ) -> Done {
        let claims = claims.map_err(|error| match error {
            TokenError::Expired | TokenError::NotYet => ClientError::TokenExpired.into(),
            error => refusal(&error),
        })?;
        self.check_holder(channel, &claims, step)?;
        if let Some(subscription) = self.subscription_mut(channel) {
            subscription.expire_at = claims.expire_at;
            let token = TokenMark { id: claims.token_id, issued_at: claims.issued_at };
            subscription.token = Some(Box::new(token));
        }
        self.reveal_in(channel, claims.info.as_ref(), step);
        self.set_wake(step);
        let expiry = step.context.expiry(claims.expire_at);
        step.reply(id, Ok(Outcome::SubRefresh(expiry)));
        Ok(())
    }
}

/// What comes of a token that does not count.
fn refusal(error: &TokenError) -> Refusal {
    match error {
        // The key may be there when the client comes again.
        TokenError::UnknownKey => ClientError::Internal.into(),
        TokenError::NotChecked => ClientError::TooManyRequests.into(),
        _ => Disconnect::InvalidToken.into(),
    }
}
