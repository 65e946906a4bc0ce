//! `[channel]`: the options of namespaces. The options themselves are the core's; here is how they
//! are written.

use dunlin_core::{
    limits::Rate,
    namespace::{ChannelOptions, ChannelRegex, DeltaType, NamespaceName, Namespaces, RecoveryMode},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::Table;

use super::{keys, units};

/// `[channel]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// The options of channels without a namespace.
    #[serde(with = "WrittenOptions")]
    pub without_namespace: ChannelOptions,
    /// The namespaces, in the order of the file; checked to have different names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NamespaceConfig>,
}

/// `[[channel.namespaces]]`
#[derive(Clone, Debug)]
pub struct NamespaceConfig {
    /// The part of a channel's name before the first `:`; checked to be a namespace's name.
    pub name: String,
    /// The options of its channels.
    pub options: ChannelOptions,
}

impl ChannelConfig {
    /// The namespaces as the core knows them.
    pub fn namespaces(&self) -> Namespaces {
        // Others do not pass the check.
        let named = self.namespaces.iter().filter_map(|namespace| {
            let name = NamespaceName::new(&namespace.name).ok()?;
            Some((name, namespace.options.clone()))
        });
        Namespaces::new(self.without_namespace.clone(), named)
    }

    /// All options that stand in the file, each with what gives the key of one of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (impl Fn(&str) -> String, &ChannelOptions)> {
        let without = (None, &self.without_namespace);
        let named = self.namespaces.iter().enumerate();
        let named = named.map(|(index, namespace)| (Some(index), &namespace.options));
        std::iter::once(without).chain(named).map(|(index, options)| {
            let key = move |name: &str| match index {
                Some(index) => keys::of_namespace(index, name),
                None => format!("channel.without_namespace.{name}"),
            };
            (key, options)
        })
    }
}

impl<'de> Deserialize<'de> for NamespaceConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(from)?;
        let name = table.remove("name").ok_or_else(|| de::Error::missing_field("name"))?;
        let inner = |error: toml::de::Error| de::Error::custom(error.message());
        let name = name.try_into().map_err(inner)?;
        let options = WrittenOptions::deserialize(table).map_err(inner)?;
        Ok(Self { name, options })
    }
}

impl Serialize for NamespaceConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Options<'a>(#[serde(with = "WrittenOptions")] &'a ChannelOptions);

        let failed = serde::ser::Error::custom;
        let options = Table::try_from(Options(&self.options)).map_err(failed)?;
        let mut table = Table::from_iter([("name".to_owned(), self.name.clone().into())]);
        table.extend(options);
        table.serialize(to)
    }
}

/// How [`ChannelOptions`] are written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ChannelOptions", deny_unknown_fields)]
struct WrittenOptions {
    #[serde(with = "units::count")]
    history_size: usize,
    #[serde(with = "units::duration")]
    history_ttl: std::time::Duration,
    #[serde(with = "units::duration")]
    history_meta_ttl: std::time::Duration,
    force_recovery: bool,
    allow_recovery: bool,
    force_positioning: bool,
    allow_positioning: bool,
    #[serde(with = "WrittenMode")]
    force_recovery_mode: RecoveryMode,
    presence: bool,
    join_leave: bool,
    force_push_join_leave: bool,
    allow_subscribe_for_client: bool,
    allow_subscribe_for_anonymous: bool,
    allow_publish_for_subscriber: bool,
    allow_publish_for_client: bool,
    allow_publish_for_anonymous: bool,
    allow_presence_for_subscriber: bool,
    allow_presence_for_client: bool,
    allow_presence_for_anonymous: bool,
    allow_history_for_subscriber: bool,
    allow_history_for_client: bool,
    allow_history_for_anonymous: bool,
    allow_user_limited_channels: bool,
    #[serde(with = "delta_types")]
    allowed_delta_types: Vec<DeltaType>,
    delta_publish: bool,
    allow_empty_data: bool,
    allow_tags_filter: bool,
    #[serde(with = "units::rate")]
    publications_per_second: Option<Rate>,
    conflate: bool,
    #[serde(with = "pattern")]
    channel_regex: Option<ChannelRegex>,
    allow_plain_subscribe: bool,
    allow_plain_publish: bool,
}

/// How a [`RecoveryMode`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "RecoveryMode", rename_all = "lowercase")]
enum WrittenMode {
    Stream,
    Cache,
}

/// How a [`DeltaType`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "DeltaType", rename_all = "lowercase")]
enum WrittenDelta {
    Fossil,
}

/// A list of delta types.
mod delta_types {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Item(#[serde(with = "WrittenDelta")] DeltaType);

    pub(super) fn deserialize<'de, D>(from: D) -> Result<Vec<DeltaType>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let items = Vec::<Item>::deserialize(from)?;
        Ok(items.into_iter().map(|Item(delta)| delta).collect())
    }

    pub(super) fn serialize<S: Serializer>(value: &[DeltaType], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().copied().map(Item))
    }
}

/// A pattern; "" = none.
mod pattern {
    use super::*;

    pub(super) fn deserialize<'de, D>(from: D) -> Result<Option<ChannelRegex>, D::Error>
    where
        D: Deserializer<'de>,
    {
        match String::deserialize(from)?.as_str() {
            "" => Ok(None),
            text => ChannelRegex::new(text).map(Some).map_err(de::Error::custom),
        }
    }

    pub(super) fn serialize<S>(value: &Option<ChannelRegex>, to: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        to.serialize_str(value.as_ref().map_or("", ChannelRegex::as_str))
    }
}
