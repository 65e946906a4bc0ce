//! `[client]`: the clients of the Centrifuge dialect, and the tokens they bring.

use std::time::Duration;

use dunlin_core::auth::keyring::{KeyError, Keyring, KeyringSource};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::Table;

use super::{
    secret::{Secrets, texts},
    units,
};
use crate::front::origin::OriginPattern;

/// `[client]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Everybody may enter and do anything but enter private channels.
    pub insecure: bool,
    /// Clients without a token are anonymous, not refused.
    pub allow_anonymous_connect_without_token: bool,
    /// Pages that may connect, in both dialects; none = all.
    #[serde(with = "units::texts")]
    pub allowed_origins: Vec<OriginPattern>,
    /// Time between pings; zero = no pings.
    #[serde(with = "units::duration")]
    pub ping_interval: Duration,
    /// Longest wait for the pong.
    #[serde(with = "units::duration")]
    pub pong_timeout: Duration,
    /// Longest time from the 101 to the connect command.
    #[serde(with = "units::duration")]
    pub stale_close_delay: Duration,
    /// How long a connection outlives its token.
    #[serde(with = "units::duration")]
    pub expired_close_delay: Duration,
    /// How long a subscription outlives its token.
    #[serde(with = "units::duration")]
    pub expired_sub_close_delay: Duration,
    /// Most subscriptions of one client.
    #[serde(with = "units::count")]
    pub channel_limit: usize,
    /// Most connections of one user on this node; 0 = any number.
    #[serde(with = "units::count")]
    pub user_connection_limit: usize,
    /// Most publications in one answer to a history command.
    #[serde(with = "units::count")]
    pub history_max_publication_limit: usize,
    /// Most publications that a subscription recovers.
    #[serde(with = "units::count")]
    pub recovery_max_publication_limit: usize,
    /// Channels of users.
    pub subscribe_to_user_personal_channel: PersonalChannelConfig,
    /// Which connection tokens are good.
    pub token: TokenConfig,
    /// Which subscription tokens are good.
    pub subscription_token: SubscriptionTokenConfig,
}

impl ClientConfig {
    /// Whether any token can be good.
    pub fn takes_tokens(&self) -> bool {
        self.token.has_keys() || self.subscription_token().has_keys()
    }

    /// Which subscription tokens are good: by keys of their own, or by those of connection tokens.
    pub fn subscription_token(&self) -> &TokenConfig {
        match self.subscription_token.enabled {
            true => &self.subscription_token.token,
            false => &self.token,
        }
    }
}

/// `[client.subscribe_to_user_personal_channel]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonalChannelConfig {
    /// Whether each user is subscribed to its own channel.
    pub enabled: bool,
    /// The namespace of these channels, checked to exist; empty = none.
    pub namespace: String,
}

/// `[client.token]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Secrets for HS256, HS384 and HS512.
    pub hmac_secret_key: Secrets,
    /// PEM for RS256, RS384 and RS512.
    #[serde(with = "texts")]
    pub rsa_public_key: Vec<String>,
    /// PEM for ES256, ES384 and ES512.
    #[serde(with = "texts")]
    pub ecdsa_public_key: Vec<String>,
    /// PEM for EdDSA.
    #[serde(with = "texts")]
    pub ed25519_public_key: Vec<String>,
    /// Address of a key set, checked to be one that [`crate::jwks::Address`] allows.
    #[serde(with = "units::optional")]
    pub jwks_public_endpoint: Option<String>,
    /// How long keys of a set count that cannot be fetched; zero = for ever.
    #[serde(with = "units::duration")]
    pub jwks_age_max: Duration,
    /// What the claim `aud` has to hold.
    #[serde(with = "units::optional")]
    pub audience: Option<String>,
    /// What the claim `iss` has to be.
    #[serde(with = "units::optional")]
    pub issuer: Option<String>,
    /// By how much the clock of who signs may be ahead.
    #[serde(with = "units::duration")]
    pub leeway: Duration,
    /// Every token is believed.
    pub insecure_skip_signature_verify: bool,
}

impl TokenConfig {
    /// Whether any token can be good.
    pub(super) fn has_keys(&self) -> bool {
        let public = [&self.rsa_public_key, &self.ecdsa_public_key, &self.ed25519_public_key];
        self.insecure_skip_signature_verify
            || self.jwks_public_endpoint.is_some()
            || !self.hmac_secret_key.expose().is_empty()
            || public.iter().any(|keys| !keys.is_empty())
    }

    /// The keys that are written here; those of the key set have to be fetched.
    ///
    /// # Errors
    /// When one of them is no key.
    pub fn keyring(&self) -> Result<Keyring, KeyError> {
        Keyring::new(&KeyringSource {
            hmac_secret_keys: self.hmac_secret_key.expose().to_vec(),
            rsa_public_keys: self.rsa_public_key.clone(),
            ecdsa_public_keys: self.ecdsa_public_key.clone(),
            ed25519_public_keys: self.ed25519_public_key.clone(),
            audience: self.audience.clone(),
            issuer: self.issuer.clone(),
            leeway: self.leeway,
            insecure_skip_signature: self.insecure_skip_signature_verify,
        })
    }
}

/// `[client.subscription_token]`
#[derive(Clone, Debug)]
pub struct SubscriptionTokenConfig {
    /// Whether `token` counts; see [`ClientConfig::subscription_token`].
    pub enabled: bool,
    /// Keys of their own.
    pub token: TokenConfig,
}

impl<'de> Deserialize<'de> for SubscriptionTokenConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(from)?;
        let enabled = table.remove("enabled").ok_or_else(|| de::Error::missing_field("enabled"))?;
        let inner = |error: toml::de::Error| de::Error::custom(error.message());
        let enabled = enabled.try_into().map_err(inner)?;
        let token = table.try_into().map_err(inner)?;
        Ok(Self { enabled, token })
    }
}

impl Serialize for SubscriptionTokenConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut table = Table::from_iter([("enabled".to_owned(), self.enabled.into())]);
        table.extend(Table::try_from(&self.token).map_err(serde::ser::Error::custom)?);
        table.serialize(to)
    }
}
