//! Claims by the names and types that they have in a token.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::{JSON_DEPTH_MAX, SECONDS_END, TokenError, claims::Overrides};
use crate::json::{self, Object};

/// What both kinds of tokens say, as it is written.
#[derive(Deserialize)]
pub(super) struct RegisteredClaims {
    #[serde(default)]
    pub(super) sub: String,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) exp: Option<NumericDate>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) iat: Option<NumericDate>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) expire_at: Option<NumericDate>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) jti: Option<String>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) aud: Option<Audience>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) iss: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WrittenConnection<'a> {
    #[serde(default, deserialize_with = "json::present")]
    pub(super) channel: Option<de::IgnoredAny>,
    #[serde(borrow)]
    pub(super) info: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) b64info: Option<String>,
    #[serde(borrow)]
    pub(super) meta: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) channels: Option<Vec<String>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    pub(super) subs: Option<Subs<'a>>,
}

#[derive(Deserialize)]
pub(super) struct WrittenSubscription<'a> {
    pub(super) channel: String,
    #[serde(borrow)]
    pub(super) info: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) b64info: Option<String>,
    #[serde(default, deserialize_with = "json::present_object", rename = "override")]
    pub(super) overrides: Option<Overrides>,
}

/// The claim `subs` in the order it is written.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Subs<'a>(
    #[serde(borrow)] pub(super) BTreeMap<String, Object<WrittenOptions<'a>>>,
);

#[derive(Deserialize)]
pub(super) struct WrittenOptions<'a> {
    #[serde(borrow)]
    pub(super) info: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) b64info: Option<String>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "json::present")]
    pub(super) b64data: Option<String>,
    #[serde(default, deserialize_with = "json::present_object", rename = "override")]
    pub(super) overrides: Option<Overrides>,
}

/// `aud`: one name or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Seconds since 1970 (RFC 7519 section 2); fractions are cut off.
pub(super) struct NumericDate(pub(super) u64);

impl NumericDate {
    /// Whether nobody can mean that in seconds.
    pub(super) fn is_too_far(&self) -> bool {
        self.0 >= SECONDS_END
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(from)?;
        let whole = number.as_u64().or_else(|| {
            let seconds = number.as_f64().filter(|seconds| (0.0..1e15).contains(seconds))?;
            Some(seconds as u64)
        });
        whole.map(Self).ok_or_else(|| de::Error::custom("not a date"))
    }
}

/// A value of a claim; see [`json::either`].
pub(super) fn either(
    plain: Option<&RawValue>,
    base64: Option<&str>,
) -> Result<Option<Bytes>, TokenError> {
    json::either(plain, base64, JSON_DEPTH_MAX).map_err(|unusable| match unusable {
        json::Unusable::NotJson => TokenError::Invalid("a value is not JSON"),
        json::Unusable::NotBase64 => TokenError::Invalid("a value in base64 is not base64"),
    })
}
