//! `redis.url`: where Redis is and how to enter. Everything that prints it leaves passwords out.

use std::{fmt, str::FromStr};

use dunlin_redis::url::{Endpoint, UrlError};
use serde::{Deserialize, Deserializer, Serializer, de};

use super::secret::texts;

/// One server, or several over which channels are spread; never none.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrls(Vec<RedisUrl>);

impl RedisUrls {
    /// The servers in their order.
    pub fn parsed(&self) -> Vec<dunlin_redis::url::RedisUrl> {
        self.0.iter().map(|url| url.parsed.clone()).collect()
    }

    /// The first server.
    pub fn first(&self) -> &dunlin_redis::url::RedisUrl {
        &self.0[0].parsed
    }

    /// Whether it is a cluster, which stands alone in its list.
    pub fn is_cluster(&self) -> bool {
        matches!(self.first().endpoint, Endpoint::Cluster(_))
    }

    /// The URLs as written, with their passwords and a comma between: for another process that
    /// connects with them.
    pub fn expose(&self) -> String {
        let texts: Vec<_> = self.0.iter().map(|url| url.text.as_str()).collect();
        texts.join(",")
    }
}

impl fmt::Display for RedisUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, url) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{url}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrls({self})")
    }
}

/// A text, a list of texts, or "" for none.
pub(super) mod optional {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<RedisUrls>, D::Error> {
        let value = toml::Value::deserialize(from)?;
        if value.as_str() == Some("") {
            return Ok(None);
        }
        RedisUrls::of(value).map(Some).map_err(de::Error::custom)
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<RedisUrls>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(urls) => to.collect_str(urls),
            None => to.serialize_str(""),
        }
    }
}

impl RedisUrls {
    fn of(value: toml::Value) -> Result<Self, toml::de::Error> {
        let texts = texts::deserialize(value)?;
        let urls = texts.iter().flat_map(|text| split(text)).map(|text| text.parse());
        let urls: Vec<RedisUrl> = urls.collect::<Result<_, _>>().map_err(de::Error::custom)?;
        let is_repeated = |(number, url): (usize, &RedisUrl)| {
            urls[..number].iter().any(|other| other.parsed.endpoint == url.parsed.endpoint)
        };
        let is_cluster = |url: &RedisUrl| matches!(url.parsed.endpoint, Endpoint::Cluster(_));
        if urls.is_empty() {
            Err(de::Error::custom("the list of redis servers is empty"))
        } else if urls.len() > 1 && urls.iter().any(is_cluster) {
            Err(de::Error::custom(
                "a redis cluster stands alone, and the list has other servers as well (the nodes \
                 of one cluster go into one url: redis+cluster://HOST:PORT,HOST:PORT)",
            ))
        } else if urls.iter().enumerate().any(is_repeated) {
            Err(de::Error::custom("a redis server stands twice in the list"))
        } else {
            Ok(Self(urls))
        }
    }
}

/// The URLs of a text: a comma stands between them, and between the hosts of one.
fn split(text: &str) -> Vec<String> {
    let mut urls: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim) {
        match urls.last_mut() {
            Some(url) if !part.contains("://") => {
                url.push(',');
                url.push_str(part);
            }
            _ => urls.push(part.to_owned()),
        }
    }
    urls
}

/// One server, checked.
#[derive(Clone, PartialEq, Eq)]
struct RedisUrl {
    text: String,
    parsed: dunlin_redis::url::RedisUrl,
}

impl fmt::Display for RedisUrl {
    /// The URL with `[redacted]` in place of the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The parsed form prints scheme and address alone: what else is shown is put in here.
        let place = self.parsed.to_string();
        let (scheme, place) = place.split_once("://").unwrap_or(("redis", &place));
        write!(f, "{scheme}://")?;
        if self.parsed.password.is_some() {
            write!(f, "{}:[redacted]@", self.parsed.user.as_deref().unwrap_or_default())?;
        }
        write!(f, "{place}")?;
        match (&self.parsed.endpoint, self.parsed.database) {
            (_, 0) => Ok(()),
            (Endpoint::Unix { .. }, database) => write!(f, "?db={database}"),
            (_, database) => write!(f, "/{database}"),
        }
    }
}

impl FromStr for RedisUrl {
    type Err = UrlError;

    /// The error does not repeat the text: it may hold a password.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        Ok(Self { text: text.to_owned(), parsed: text.parse()? })
    }
}
