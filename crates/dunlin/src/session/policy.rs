//! What the node's operator decided about clients of the Centrifuge dialect.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    auth::{
        TokenError,
        keyring::Keyring,
        revocation::{Revocable, Revocations},
    },
    rights::Trust,
    session::{Answer, Inquiry, Rules},
};
use parking_lot::{RwLock, RwLockReadGuard};

use crate::{
    clock::unix_now,
    config::{ClientConfig, RateLimitsConfig, TokenConfig},
    jwks::LiveKeyring,
};

/// See the module's text. Shared by all shards.
pub(crate) struct Policy {
    /// What sessions go by.
    pub(crate) rules: Rules,
    pub(crate) ping_interval: Duration,
    pub(crate) pong_timeout: Duration,
    /// Whether bytes are counted that clients send.
    pub(crate) counts_bytes: bool,
    /// Most connections of one user on this node; 0 = any number.
    pub(super) user_connections_max: usize,
    connection_keys: Arc<LiveKeyring>,
    subscription_keys: Arc<LiveKeyring>,
    revocations: Arc<RwLock<Revocations>>,
}

impl Policy {
    /// As the operator wrote it; key sets are kept up to date from now on.
    ///
    /// # Errors
    /// When a key cannot be used; they were checked.
    pub(crate) fn start(
        config: &ClientConfig,
        rate_limits: &RateLimitsConfig,
        revocations: Arc<RwLock<Revocations>>,
    ) -> anyhow::Result<Self> {
        let (connection_keys, subscription_keys) = keyrings(config)?;
        for keys in [&connection_keys, &subscription_keys] {
            let keys = Arc::clone(keys);
            tokio::spawn(async move { keys.follow().await });
        }
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
            rates: rate_limits.connection.rates(),
            is_metered: rate_limits.meters_connections(),
            personal_namespace: personal.enabled.then(|| personal.namespace.clone()),
        };
        Ok(Self {
            rules,
            counts_bytes: rate_limits.counts_bytes(),
            ping_interval: config.ping_interval,
            pong_timeout: config.pong_timeout,
            user_connections_max: config.user_connection_limit,
            connection_keys,
            subscription_keys,
            revocations,
        })
    }

    /// Whether connection tokens, or subscription tokens, are slow to check.
    pub(super) fn is_slow(&self, inquiry: &Inquiry) -> bool {
        match inquiry {
            Inquiry::ConnectionToken(_) => self.connection_keys.current().is_slow(),
            Inquiry::SubscriptionToken(_) => self.subscription_keys.current().is_slow(),
            _ => false,
        }
    }

    /// What a token says that `inquiry` is about, or why it does not count.
    pub(super) fn check(&self, inquiry: &Inquiry) -> Option<Answer> {
        let now = unix_now();
        match inquiry {
            Inquiry::ConnectionToken(token) => {
                let verify = |keys: &Keyring| keys.verify_connection(token, now);
                let claims = self.verdict("connection", &self.connection_keys, verify);
                Some(Answer::Connection(claims))
            }
            Inquiry::SubscriptionToken(token) => {
                let verify = |keys: &Keyring| keys.verify_subscription(token, now);
                let claims = self.verdict("subscription", &self.subscription_keys, verify);
                Some(Answer::Subscription(claims))
            }
            _ => None,
        }
    }

    /// What is true of a token that was checked a moment ago: it may have been revoked meanwhile.
    pub(super) fn check_again(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Connection(claims) => {
                Answer::Connection(claims.and_then(|claims| self.unless_revoked(claims)))
            }
            Answer::Subscription(claims) => {
                Answer::Subscription(claims.and_then(|claims| self.unless_revoked(claims)))
            }
            answer => answer,
        }
    }

    fn verdict<C: Revocable>(
        &self,
        kind: &str,
        keys: &LiveKeyring,
        verify: impl FnOnce(&Keyring) -> Result<C, TokenError>,
    ) -> Result<Box<C>, TokenError> {
        let claims = verify(&keys.current()).map_err(|error| ask_for_keys(error, keys));
        let claims = claims.and_then(|claims| self.unless_revoked(Box::new(claims)));
        claims.inspect_err(|error| tracing::debug!("{kind} token refused: {error}"))
    }

    fn unless_revoked<C: Revocable>(&self, claims: Box<C>) -> Result<Box<C>, TokenError> {
        match claims.is_revoked(&self.revocations()) {
            true => Err(TokenError::Invalid("it was revoked")),
            false => Ok(claims),
        }
    }

    /// What is revoked, while the guard is held.
    pub(super) fn revocations(&self) -> RwLockReadGuard<'_, Revocations> {
        self.revocations.read()
    }
}

/// The keys of connection and of subscription tokens: the same, unless the latter have their own.
fn keyrings(config: &ClientConfig) -> anyhow::Result<(Arc<LiveKeyring>, Arc<LiveKeyring>)> {
    let live = |token: &TokenConfig| -> anyhow::Result<_> {
        let address = token.jwks_public_endpoint.as_deref().map(str::parse).transpose()?;
        Ok(Arc::new(LiveKeyring::new(token.keyring()?, address, token.jwks_age_max)))
    };
    let connection = live(&config.token)?;
    let subscription = match config.subscription_token.enabled {
        true => live(config.subscription_token())?,
        false => Arc::clone(&connection),
    };
    Ok((connection, subscription))
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
