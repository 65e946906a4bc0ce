//! How values are written: durations ("25s"), sizes ("64KiB"), counts, rates ("100 burst 500"),
//! addresses and the Redis URL.
//! Each module here is for `#[serde(with = "…")]`; the tree itself holds plain types.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Durations: text that [`humantime`] reads, or a whole number of seconds.
pub(super) mod duration {
    use std::time::Duration;

    use super::*;

    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"25s\" or \"250ms\", or a whole number of seconds")
        }

        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
            let unsigned = u64::try_from(seconds)
                .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))?;
            Ok(Duration::from_secs(unsigned))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            let parsed = match text.trim().parse::<u64>() {
                Ok(seconds) => Some(Duration::from_secs(seconds)),
                Err(_) => humantime::parse_duration(text).ok(),
            };
            parsed.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_any(Text)
    }

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }
}

/// Sizes in bytes: a whole number, or one with a unit (B, KiB, MiB, GiB, KB, MB, GB).
pub(super) mod size {
    use super::*;

    const UNITS: [(&str, usize); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
        ("B", 1),
    ];

    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as \"64KiB\" or \"16MiB\", or a whole number of bytes")
        }

        fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<usize, E> {
            usize::try_from(bytes)
                .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
            parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    pub(super) fn parse(text: &str) -> Option<usize> {
        let text = text.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[digits.len()..];
        let factor = match unit {
            "" => 1,
            _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
        };
        let number = digits.trim_end();
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        number.parse::<usize>().ok()?.checked_mul(factor)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        from.deserialize_any(Text)
    }

    pub(crate) fn serialize<S: Serializer>(value: &usize, to: S) -> Result<S::Ok, S::Error> {
        let binary = UNITS.iter().filter(|(name, factor)| name.len() != 2 || *factor == 1);
        let (name, factor) = binary
            .copied()
            .find(|(_, factor)| *value != 0 && value.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        to.collect_str(&format_args!("{}{name}", value / factor))
    }
}

/// Rates: so much per second, as a whole number or a size, and behind `burst` so much at once; else
/// that is ten times as much. 0 = any amount.
pub(super) mod rate {
    use dunlin_core::limits::Rate;

    use super::*;

    /// So many seconds' worth there is at once unless it is said otherwise.
    const BURST_S: u32 = 10;

    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = Option<Rate>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(
                "so much per second as in \"100\", \"100 burst 500\" or \"64KiB burst 1MiB\", or 0 \
                 for any amount; less than 4294967296",
            )
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            let wrong = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
            Ok(rate(u32::try_from(number).map_err(wrong)?))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    fn rate(per_second: u32) -> Option<Rate> {
        (per_second > 0).then(|| Rate { per_second, burst: per_second.saturating_mul(BURST_S) })
    }

    fn parse(text: &str) -> Option<Option<Rate>> {
        let number = |text| size::parse(text).and_then(|number| u32::try_from(number).ok());
        match text.split_once("burst") {
            None => Some(rate(number(text)?)),
            Some((per_second, burst)) => {
                let (per_second, burst) = (number(per_second)?, number(burst)?);
                let is_one = per_second > 0 && burst > 0;
                is_one.then_some(Some(Rate { per_second, burst }))
            }
        }
    }

    pub(crate) fn deserialize<'de, D>(from: D) -> Result<Option<Rate>, D::Error>
    where
        D: Deserializer<'de>,
    {
        from.deserialize_any(Text)
    }

    pub(crate) fn serialize<S: Serializer>(value: &Option<Rate>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            None => to.serialize_str("0"),
            Some(Rate { per_second, burst }) => {
                to.collect_str(&format_args!("{per_second} burst {burst}"))
            }
        }
    }
}

/// Counts: whole numbers, 0 or more.
pub(super) mod count {
    use super::*;

    struct Number;

    impl de::Visitor<'_> for Number {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, 0 or more")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<usize, E> {
            usize::try_from(number)
                .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        from.deserialize_any(Number)
    }

    pub(crate) fn serialize<S: Serializer>(value: &usize, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }
}

/// Socket addresses: an IP address and a port.
pub(super) mod address {
    use std::net::SocketAddr;

    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| {
            let expected = "an IP address and a port such as 127.0.0.1:8080 or [::]:8080";
            de::Error::invalid_value(de::Unexpected::Str(&text), &expected)
        })
    }

    pub(crate) fn serialize<S: Serializer>(value: &SocketAddr, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }
}

/// Socket addresses that may be empty, which means: not set.
pub(super) mod optional_address {
    use std::net::SocketAddr;

    use serde::de::IntoDeserializer;

    use super::*;

    pub(crate) fn deserialize<'de, D>(from: D) -> Result<Option<SocketAddr>, D::Error>
    where
        D: Deserializer<'de>,
    {
        match String::deserialize(from)?.as_str() {
            "" => Ok(None),
            text => address::deserialize(text.into_deserializer()).map(Some),
        }
    }

    pub(crate) use super::optional::serialize;
}

/// Values that are written as texts, in a list.
pub(super) mod texts {
    use std::{fmt::Display, str::FromStr};

    use super::*;

    pub(crate) fn deserialize<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        let value = |text: &String| {
            text.parse().map_err(|error| {
                de::Error::custom(format_args!("invalid value: {text:?}, {error}"))
            })
        };
        Vec::<String>::deserialize(from)?.iter().map(value).collect()
    }

    pub(crate) fn serialize<S, T>(value: &[T], to: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: Display,
    {
        to.collect_seq(value.iter().map(ToString::to_string))
    }
}

/// Networks: a list of addresses and of networks in CIDR notation.
pub(super) mod networks {
    use std::net::IpAddr;

    use ipnet::IpNet;

    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let network = |text: &String| {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
                let expected = "an IP address or a network such as 10.0.0.0/8 or 2001:db8::/32";
                de::Error::invalid_value(de::Unexpected::Str(text), &expected)
            })
        };
        texts.iter().map(network).collect()
    }

    pub(crate) use super::texts::serialize;
}

/// Text that may be empty, which means: not set.
pub(super) mod optional {
    use serde::de::{DeserializeOwned, IntoDeserializer};

    use super::*;

    pub(crate) fn deserialize<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: DeserializeOwned,
    {
        let text = String::deserialize(from)?;
        if text.is_empty() { Ok(None) } else { T::deserialize(text.into_deserializer()).map(Some) }
    }

    pub(crate) fn serialize<S, T>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: Serialize,
    {
        match value {
            Some(value) => value.serialize(to),
            None => to.serialize_str(""),
        }
    }
}
