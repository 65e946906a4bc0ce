//! New tokens for connections and subscriptions whose time runs out.

use std::rc::Rc;

use dunlin_core::{
    auth::TokenError,
    error::{ClientError, Disconnect},
    event::Outcome,
};

use super::{
    TokenMark,
    commands::{Done, Refusal, channel_name},
    subscribe::expiry,
};
use crate::{connection::Connection, shard::Shard};

impl Shard {
    /// Lets a client stay by a new token.
    pub(super) fn refresh(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        token: &str,
    ) -> Done {
        let Some(session) = connection.session() else { return Ok(()) };
        if token.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let claims = self.policy().connection(token).map_err(|error| match error {
            TokenError::Expired => Disconnect::Expired.into(),
            error => refusal(&error),
        })?;
        if claims.user != session.borrow().identity.user {
            tracing::debug!("connection token refused: not for this user");
            return Err(Disconnect::InvalidToken.into());
        }
        let client = {
            let identity = &mut session.borrow_mut().identity;
            identity.info = claims.info.or(identity.info.take());
            identity.expire_at = claims.expire_at;
            identity.token = TokenMark { id: claims.token_id, issued_at: claims.issued_at };
            identity.client.clone()
        };
        self.set_wake(connection);
        let outcome = Outcome::Refresh { client, expiry: expiry(claims.expire_at) };
        self.reply(connection, id, Ok(outcome));
        Ok(())
    }

    /// Lets a subscription stand by a new token.
    pub(super) fn refresh_subscription(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        channel: &str,
        token: &str,
    ) -> Done {
        let Some(session) = connection.session() else { return Ok(()) };
        let channel = channel_name(channel)?;
        if session.borrow().subscription(&channel).is_none() {
            return Err(ClientError::PermissionDenied.into());
        }
        if token.is_empty() {
            return Err(ClientError::BadRequest.into());
        }
        let claims = self.policy().subscription(token).map_err(|error| match error {
            TokenError::Expired => ClientError::TokenExpired.into(),
            error => refusal(&error),
        })?;
        let mut borrowed = session.borrow_mut();
        if claims.channel != channel || claims.user != borrowed.identity.user {
            tracing::debug!(%channel, "subscription token refused: not for this user and channel");
            return Err(Disconnect::InvalidToken.into());
        }
        if let Some(subscription) = borrowed.subscription_mut(&channel) {
            subscription.expire_at = claims.expire_at;
            let token = TokenMark { id: claims.token_id, issued_at: claims.issued_at };
            subscription.token = Some(Box::new(token));
            subscription.info = claims.info.or(subscription.info.take());
        }
        drop(borrowed);
        self.set_wake(connection);
        self.reply(connection, id, Ok(Outcome::SubRefresh(expiry(claims.expire_at))));
        Ok(())
    }
}

/// What comes of a token that does not count.
fn refusal(error: &TokenError) -> Refusal {
    match error {
        // The key may be there when the client comes again.
        TokenError::UnknownKey => ClientError::Internal.into(),
        _ => Disconnect::InvalidToken.into(),
    }
}
