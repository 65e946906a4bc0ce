//! What the node's operator decided about clients of the Centrifuge dialect.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    auth::{
        TokenError,
        claims::{ConnectionClaims, SubscriptionClaims},
        revocation::Revocations,
    },
    rights::Trust,
    session::{Answer, Inquiry, Rules},
};
use parking_lot::{RwLock, RwLockReadGuard};

use crate::{clock::unix_now, config::ClientConfig, jwks::LiveKeyring};

/// See the module's text. Shared by all shards.
pub(crate) struct Policy {
    /// What sessions go by.
    pub(crate) rules: Rules,
    pub(crate) ping_interval: Duration,
    pub(crate) pong_timeout: Duration,
    /// Most connections of one user on this node; 0 = any number.
    pub(super) user_connections_max: usize,
    connection_keys: Arc<LiveKeyring>,
    subscription_keys: Arc<LiveKeyring>,
    revocations: Arc<RwLock<Revocations>>,
}

impl Policy {
    pub(crate) fn new(
        config: &ClientConfig,
        connection_keys: Arc<LiveKeyring>,
        subscription_keys: Arc<LiveKeyring>,
        revocations: Arc<RwLock<Revocations>>,
    ) -> Self {
        let personal = &config.subscribe_to_user_personal_channel;
        let rules = Rules {
            trust: if config.insecure { Trust::Insecure } else { Trust::Checked },
            allows_anonymous: config.insecure || config.allow_anonymous_connect_without_token,
            ping_s: u32::try_from(config.ping_interval.as_secs()).unwrap_or(u32::MAX),
            connect_within: config.stale_close_delay,
            connection_grace: config.expired_close_delay,
            subscription_grace: config.expired_sub_close_delay,
            channels_max: config.channel_limit,
            history_max: config.history_max_publication_limit,
            recovery_max: config.recovery_max_publication_limit,
            personal_namespace: personal.enabled.then(|| personal.namespace.clone()),
        };
        Self {
            rules,
            ping_interval: config.ping_interval,
            pong_timeout: config.pong_timeout,
            user_connections_max: config.user_connection_limit,
            connection_keys,
            subscription_keys,
            revocations,
        }
    }

    /// Whether connection tokens, or subscription tokens, are slow to check.
    pub(super) fn is_slow(&self, inquiry: &Inquiry) -> bool {
        match inquiry {
            Inquiry::ConnectionToken(_) => self.connection_keys.current().is_slow(),
            Inquiry::SubscriptionToken(_) => self.subscription_keys.current().is_slow(),
            _ => false,
        }
    }

    /// What a token says that `inquiry` is about.
    pub(super) fn check(&self, inquiry: &Inquiry) -> Option<Answer> {
        match inquiry {
            Inquiry::ConnectionToken(token) => {
                Some(Answer::Connection(self.connection(token).map(Box::new)))
            }
            Inquiry::SubscriptionToken(token) => {
                Some(Answer::Subscription(self.subscription(token).map(Box::new)))
            }
            _ => None,
        }
    }

    /// What is true of a token that was checked a moment ago: it may have been revoked meanwhile.
    pub(super) fn check_again(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Connection(Ok(claims)) => {
                let (id, at) = (claims.token_id.as_deref(), claims.issued_at);
                Answer::Connection(self.check_revoked(&claims.user, id, at).map(|()| claims))
            }
            Answer::Subscription(Ok(claims)) => {
                let (id, at) = (claims.token_id.as_deref(), claims.issued_at);
                Answer::Subscription(self.check_revoked(&claims.user, id, at).map(|()| claims))
            }
            answer => answer,
        }
    }

    /// What a connection token says.
    ///
    /// # Errors
    /// [`TokenError`] when it does not count, or no longer.
    fn connection(&self, token: &str) -> Result<ConnectionClaims, TokenError> {
        let claims = self.connection_keys.current().verify_connection(token, unix_now());
        let claims = claims.map_err(|error| ask_for_keys(error, &self.connection_keys));
        let claims = claims.and_then(|claims| {
            self.check_revoked(&claims.user, claims.token_id.as_deref(), claims.issued_at)?;
            Ok(claims)
        });
        claims.inspect_err(|error| tracing::debug!("connection token refused: {error}"))
    }

    /// What a subscription token says.
    ///
    /// # Errors
    /// [`TokenError`] when it does not count, or no longer.
    fn subscription(&self, token: &str) -> Result<SubscriptionClaims, TokenError> {
        let claims = self.subscription_keys.current().verify_subscription(token, unix_now());
        let claims = claims.map_err(|error| ask_for_keys(error, &self.subscription_keys));
        let claims = claims.and_then(|claims| {
            self.check_revoked(&claims.user, claims.token_id.as_deref(), claims.issued_at)?;
            Ok(claims)
        });
        claims.inspect_err(|error| tracing::debug!("subscription token refused: {error}"))
    }

    fn check_revoked(
        &self,
        user: &str,
        token_id: Option<&str>,
        issued_at: Option<u64>,
    ) -> Result<(), TokenError> {
        match self.revocations.read().is_revoked(user, token_id, issued_at) {
            true => Err(TokenError::Invalid("it was revoked")),
            false => Ok(()),
        }
    }

    /// What is revoked, while the guard is held.
    pub(super) fn revocations(&self) -> RwLockReadGuard<'_, Revocations> {
        self.revocations.read()
    }
}

/// A key set may have a key by now that was not there when it was fetched; without one there is
/// nothing to wait for.
fn ask_for_keys(error: TokenError, keys: &LiveKeyring) -> TokenError {
    match error {
        TokenError::UnknownKey if keys.follows_a_set() => keys.want_newer(),
        TokenError::UnknownKey => return TokenError::Invalid("no key verifies it"),
        _ => {}
    }
    error
}
