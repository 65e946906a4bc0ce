//! `[rate_limits]`: how often clients may do what costs others something.

use dunlin_core::limits::{Deed, Rate, Rates};
use serde::{Deserialize, Serialize};

use super::units;

/// `[rate_limits]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitsConfig {
    /// Tokens of one address that are none.
    #[serde(with = "units::rate")]
    pub bad_tokens: Option<Rate>,
    /// Requests of one address to the HTTP API without a good key.
    #[serde(with = "units::rate")]
    pub bad_keys: Option<Rate>,
    /// One connection.
    pub connection: RatesConfig,
    /// All connections of a user.
    pub user: RatesConfig,
    /// All connections of an address.
    pub address: RatesConfig,
}

/// `[rate_limits.connection]` and its like: so much per second; none = any amount.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatesConfig {
    /// Messages, or commands of the Centrifuge dialect.
    #[serde(with = "units::rate")]
    pub messages: Option<Rate>,
    /// Bytes.
    #[serde(with = "units::rate")]
    pub bytes: Option<Rate>,
    /// Publications.
    #[serde(with = "units::rate")]
    pub publications: Option<Rate>,
    /// Subscribers that publications go to.
    #[serde(with = "units::rate")]
    pub deliveries: Option<Rate>,
    /// Subscriptions asked for.
    #[serde(with = "units::rate")]
    pub subscribes: Option<Rate>,
    /// History, presence and recoveries.
    #[serde(with = "units::rate")]
    pub questions: Option<Rate>,
}

impl RatesConfig {
    /// The same as a table.
    pub fn rates(&self) -> Rates {
        Rates::new(|deed| match deed {
            Deed::Messages => self.messages,
            Deed::Bytes => self.bytes,
            Deed::Publications => self.publications,
            Deed::Deliveries => self.deliveries,
            Deed::Subscribes => self.subscribes,
            Deed::Questions => self.questions,
        })
    }
}

impl RateLimitsConfig {
    /// Whether bytes are counted that clients send.
    pub fn counts_bytes(&self) -> bool {
        [&self.connection, &self.user, &self.address].iter().any(|it| it.bytes.is_some())
    }

    /// Whether anything that connections do is counted.
    pub fn meters_connections(&self) -> bool {
        [&self.connection, &self.user, &self.address].iter().any(|it| !it.rates().is_empty())
    }
}
