//! What tokens say, checked: a claim of the wrong type is a rejection, never an absent claim.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use super::{
    ID_BYTES_MAX, JSON_DEPTH_MAX, TokenError,
    written::{
        Audience, NumericDate, RegisteredClaims, WrittenConnection, WrittenSubscription, either,
    },
};
use crate::{
    channel::ChannelName,
    json::{self, Object},
};

/// A connection token: who the client is and what it is subscribed to from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionClaims {
    /// The user (`sub`); empty = anonymous.
    pub user: Arc<str>,
    /// When the connection expires, in unix seconds: `expire_at`, else `exp`; `None` = never.
    pub expire_at: Option<u64>,
    /// When the token was issued (`iat`), in unix seconds.
    pub issued_at: Option<u64>,
    /// The token's own id (`jti`).
    pub token_id: Option<Arc<str>>,
    /// What others see of the client (`info` or `b64info`): JSON without white space.
    pub info: Option<Bytes>,
    /// What only backends see of the client (`meta`): JSON without white space.
    pub meta: Option<Bytes>,
    /// Server-side subscriptions: those of `subs`, and those of `channels`, which have no options.
    pub subscriptions: BTreeMap<ChannelName, SubscriptionOptions>,
}

/// A subscription token: a user may join a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// The user it is for (`sub`); empty = anonymous.
    pub user: Arc<str>,
    /// The channel it is for.
    pub channel: ChannelName,
    /// When the subscription expires, in unix seconds: `expire_at`, else `exp`; `None` = never.
    pub expire_at: Option<u64>,
    /// When the token was issued (`iat`), in unix seconds.
    pub issued_at: Option<u64>,
    /// The token's own id (`jti`).
    pub token_id: Option<Arc<str>>,
    /// What others see of the subscriber (`info` or `b64info`): JSON without white space.
    pub info: Option<Bytes>,
    /// Options of the channel that are different for this subscriber.
    pub overrides: Overrides,
}

/// How a server-side subscription differs from what its channel prescribes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// What others see of the subscriber: JSON without white space.
    pub info: Option<Bytes>,
    /// What the client is told with the subscription: JSON without white space.
    pub data: Option<Bytes>,
    /// Options of the channel that are different for this subscriber.
    pub overrides: Overrides,
}

/// Options of a channel that a token sets for one subscriber; `None` = as the channel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// Whether presence shows the subscriber.
    #[serde(deserialize_with = "switch")]
    pub presence: Option<bool>,
    /// Whether its joining and leaving is told.
    #[serde(deserialize_with = "switch")]
    pub join_leave: Option<bool>,
    /// Whether it recovers without having asked for it.
    #[serde(deserialize_with = "switch")]
    pub force_recovery: Option<bool>,
    /// Whether it is positioned without having asked for it.
    #[serde(deserialize_with = "switch")]
    pub force_positioning: Option<bool>,
    /// Whether it is told of joining and leaving without having asked for it.
    #[serde(deserialize_with = "switch")]
    pub force_push_join_leave: Option<bool>,
}

/// Whom a token has to come from and be for.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub(super) audience: Option<String>,
    pub(super) issuer: Option<String>,
    /// By how many seconds its maker's clock may be ahead of ours.
    pub(super) leeway: u64,
}

impl ConnectionClaims {
    pub(super) fn parse(payload: &[u8], expected: &Expected, now: u64) -> Result<Self, TokenError> {
        let Object(registered): Object<RegisteredClaims> =
            json::parse(payload, JSON_DEPTH_MAX).ok_or(MALFORMED)?;
        let Object(written): Object<WrittenConnection<'_>> =
            json::parse(payload, JSON_DEPTH_MAX).ok_or(MALFORMED)?;
        // With one set of keys for both, a right to one channel must not pass for an identity.
        if written.channel.is_some() {
            return Err(TokenError::OF_A_SUBSCRIPTION);
        }
        let mut subscriptions = BTreeMap::new();
        for channel in written.channels.unwrap_or_default() {
            subscriptions.insert(channel_name(&channel)?, SubscriptionOptions::default());
        }
        for (channel, Object(options)) in written.subs.unwrap_or_default().0 {
            let options = SubscriptionOptions {
                info: either(options.info, options.b64info.as_deref())?,
                data: either(options.data, options.b64data.as_deref())?,
                overrides: options.overrides.unwrap_or_default(),
            };
            subscriptions.insert(channel_name(&channel)?, options);
        }
        let info = either(written.info, written.b64info.as_deref())?;
        let meta = either(written.meta, None)?;
        let credentials = registered.check(expected, now)?;
        Ok(Self {
            user: credentials.user,
            expire_at: credentials.expire_at,
            issued_at: credentials.issued_at,
            token_id: credentials.token_id,
            info,
            meta,
            subscriptions,
        })
    }
}

impl SubscriptionClaims {
    pub(super) fn parse(payload: &[u8], expected: &Expected, now: u64) -> Result<Self, TokenError> {
        let Object(registered): Object<RegisteredClaims> =
            json::parse(payload, JSON_DEPTH_MAX).ok_or(MALFORMED)?;
        let Object(written): Object<WrittenSubscription<'_>> =
            json::parse(payload, JSON_DEPTH_MAX).ok_or(MALFORMED)?;
        let channel = channel_name(&written.channel)?;
        let info = either(written.info, written.b64info.as_deref())?;
        let credentials = registered.check(expected, now)?;
        Ok(Self {
            user: credentials.user,
            channel,
            expire_at: credentials.expire_at,
            issued_at: credentials.issued_at,
            token_id: credentials.token_id,
            info,
            overrides: written.overrides.unwrap_or_default(),
        })
    }
}

const MALFORMED: TokenError = TokenError::Invalid("its claims are malformed or too deep");

/// What both kinds of tokens say, checked.
struct Credentials {
    user: Arc<str>,
    expire_at: Option<u64>,
    issued_at: Option<u64>,
    token_id: Option<Arc<str>>,
}

impl RegisteredClaims {
    /// Times are told last: who holds a token that is wrong learns that first.
    fn check(self, expected: &Expected, now: u64) -> Result<Credentials, TokenError> {
        if self.sub.len() > ID_BYTES_MAX {
            return Err(TokenError::Invalid("its user is too long"));
        }
        if self.jti.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
            return Err(TokenError::Invalid("its id is too long"));
        }
        let is_for = |audience: &String| match &self.aud {
            None => false,
            Some(Audience::One(one)) => one == audience,
            Some(Audience::Many(many)) => many.contains(audience),
        };
        if !expected.audience.as_ref().is_none_or(is_for) {
            return Err(TokenError::Invalid("it is for another audience"));
        }
        if expected.issuer.is_some() && self.iss != expected.issuer {
            return Err(TokenError::Invalid("it is of another issuer"));
        }
        self.check_unit()?;
        if self.nbf.is_some_and(|NumericDate(from)| now.saturating_add(expected.leeway) < from) {
            return Err(TokenError::NotYet);
        }
        let exp = self.exp.map(|NumericDate(at)| at);
        let expire_at = match self.expire_at {
            Some(NumericDate(0)) => None,
            Some(NumericDate(at)) => Some(at),
            None => exp,
        };
        let is_over = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if is_over(exp) || is_over(expire_at) {
            return Err(TokenError::Expired);
        }
        Ok(Credentials {
            user: self.sub.into(),
            expire_at,
            issued_at: self.iat.map(|NumericDate(at)| at),
            token_id: self.jti.map(Into::into),
        })
    }

    /// A number of milliseconds read as seconds would be a life without end.
    fn check_unit(&self) -> Result<(), TokenError> {
        let is_too_far =
            |at: &Option<NumericDate>| at.as_ref().is_some_and(NumericDate::is_too_far);
        for (claim, why) in [
            (&self.exp, "exp is in milliseconds, not in seconds"),
            (&self.expire_at, "expire_at is in milliseconds, not in seconds"),
            (&self.nbf, "nbf is in milliseconds, not in seconds"),
            (&self.iat, "iat is in milliseconds, not in seconds"),
        ] {
            if is_too_far(claim) {
                return Err(TokenError::Invalid(why));
            }
        }
        Ok(())
    }
}

/// `{"value": bool}`
fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    struct Switch {
        value: bool,
    }
    Object::<Switch>::deserialize(from).map(|Object(switch)| Some(switch.value))
}

fn channel_name(name: &str) -> Result<ChannelName, TokenError> {
    ChannelName::new(name).map_err(|_| TokenError::Invalid("it names an impossible channel"))
}
