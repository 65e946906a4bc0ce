//! Orders: what the application wants done to its clients, wherever they are.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::text;
use crate::{
    auth::{claims::SubscriptionOptions, revocation::Revocation},
    channel::ChannelName,
    command::Resume,
};

/// One order. Every node obeys it for its own clients; that there are none is no error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Ends connections.
    Disconnect(Disconnect),
    /// Ends subscriptions.
    Unsubscribe(Unsubscribe),
    /// Makes subscriptions that the clients did not ask for.
    Subscribe(Box<Subscribe>),
    /// Lets connections live longer, or not.
    Refresh(Refresh),
    /// The history of a channel was removed: no node remembers its publications any longer.
    ForgetHistory {
        /// Of which one.
        #[serde(with = "text::channel")]
        channel: ChannelName,
    },
    /// The token with this id (`jti`) does not count any more.
    RevokeToken {
        /// Which one.
        id: Box<str>,
        /// When it has expired by itself, in unix seconds; none = never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
    /// A user's older tokens do not count any more.
    RevokeUser {
        /// Whose.
        user: Box<str>,
        /// In unix seconds: all tokens that were issued earlier, or do not say when.
        issued_before: u64,
        /// When the last of them has expired by itself, in unix seconds; none = never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
}

impl From<Revocation> for Order {
    fn from(revocation: Revocation) -> Self {
        match revocation {
            Revocation::Token { id, until } => Self::RevokeToken { id: Box::from(&*id), until },
            Revocation::User { user, issued_before, until } => {
                Self::RevokeUser { user: Box::from(&*user), issued_before, until }
            }
        }
    }
}

/// Which connections an order is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whom {
    /// Those of this user ...
    pub user: Box<str>,
    /// ... or only the one with this client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Box<str>>,
}

impl Whom {
    /// Whether a connection of `user` with the id `client` is meant.
    #[must_use]
    pub fn includes(&self, user: &str, client: &str) -> bool {
        *self.user == *user && self.client.as_deref().is_none_or(|only| only == client)
    }
}

/// The end of connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnect {
    /// Of whom.
    pub whom: Whom,
    /// Client ids that are spared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whitelist: Vec<Box<str>>,
    /// The close code of the Centrifuge protocol.
    pub code: u32,
    /// The reason beside it.
    pub reason: Box<str>,
}

impl Disconnect {
    /// Whether the connection of `user` with the id `client` has to end.
    #[must_use]
    pub fn includes(&self, user: &str, client: &str) -> bool {
        self.whom.includes(user, client) && !self.whitelist.iter().any(|spared| **spared == *client)
    }
}

/// The end of subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// Of whom.
    pub whom: Whom,
    /// To what; none = to everything.
    #[serde(default, with = "text::optional_channel", skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
}

/// A server-side subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Whose.
    pub whom: Whom,
    /// To what.
    #[serde(with = "text::channel")]
    pub channel: ChannelName,
    /// How it differs from what the channel prescribes.
    #[serde(default, with = "text::Options")]
    pub options: SubscriptionOptions,
    /// When it expires, in unix seconds; none = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_at: Option<u64>,
    /// Where it goes on from; none = from now on.
    #[serde(default, with = "text::optional_resume", skip_serializing_if = "Option::is_none")]
    pub recover_since: Option<Resume>,
}

/// A new expiry of connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// Of whom.
    pub whom: Whom,
    /// They are expired now.
    #[serde(default)]
    pub expired: bool,
    /// When they expire, in unix seconds; none = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_at: Option<u64>,
    /// What others see of them from now on, JSON without white space; none = as before.
    #[serde(default, with = "text::optional_json", skip_serializing_if = "Option::is_none")]
    pub info: Option<Bytes>,
}
