//! What the node's operator decided about clients of the Centrifuge dialect.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    auth::{
        TokenError,
        claims::{ConnectionClaims, SubscriptionClaims},
        revocation::Revocations,
    },
    channel::ChannelName,
    namespace::personal_channel,
    rights::Trust,
};
use parking_lot::RwLock;

use super::TokenMark;
use crate::{clock::unix_now, config::ClientConfig, jwks::LiveKeyring};

/// See the module's text. Shared by all shards.
pub(crate) struct Policy {
    pub(super) trust: Trust,
    pub(super) allows_anonymous: bool,
    pub(crate) ping_interval: Duration,
    pub(crate) pong_timeout: Duration,
    /// How long a client may take to say who it is.
    pub(crate) connect_within: Duration,
    /// How long a connection, and a subscription, outlives its token.
    pub(super) connection_grace: Duration,
    pub(super) subscription_grace: Duration,
    pub(super) channels_max: usize,
    /// Most connections of one user on this node; 0 = any number.
    pub(super) user_connections_max: usize,
    pub(super) history_max: usize,
    pub(super) recovery_max: usize,
    /// The namespace of users' own channels; none = they have none.
    personal_namespace: Option<String>,
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
        Self {
            trust: if config.insecure { Trust::Insecure } else { Trust::Checked },
            allows_anonymous: config.insecure || config.allow_anonymous_connect_without_token,
            ping_interval: config.ping_interval,
            pong_timeout: config.pong_timeout,
            connect_within: config.stale_close_delay,
            connection_grace: config.expired_close_delay,
            subscription_grace: config.expired_sub_close_delay,
            channels_max: config.channel_limit,
            user_connections_max: config.user_connection_limit,
            history_max: config.history_max_publication_limit,
            recovery_max: config.recovery_max_publication_limit,
            personal_namespace: personal.enabled.then(|| personal.namespace.clone()),
            connection_keys,
            subscription_keys,
            revocations,
        }
    }

    /// What a connection token says.
    ///
    /// # Errors
    /// [`TokenError`] when it does not count, or no longer.
    pub(super) fn connection(&self, token: &str) -> Result<ConnectionClaims, TokenError> {
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
    pub(super) fn subscription(&self, token: &str) -> Result<SubscriptionClaims, TokenError> {
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

    /// Whether a user's token does not count any more.
    pub(super) fn is_revoked(&self, user: &str, token: &TokenMark) -> bool {
        self.revocations.read().is_revoked(user, token.id.as_deref(), token.issued_at)
    }

    /// The channel that is a user's own.
    pub(super) fn personal_channel(&self, user: &str) -> Option<ChannelName> {
        personal_channel(self.personal_namespace.as_deref()?, user)
    }

    /// Whether a client must be asked whether it is there, and how often: whole seconds.
    pub(super) fn ping_s(&self) -> u32 {
        u32::try_from(self.ping_interval.as_secs()).unwrap_or(u32::MAX)
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
