//! Namespaces: what a channel offers and allows, selected by the part of its name before the first
//! `:`. Who may do what with these options is in `rights`.

use std::{borrow::Borrow, collections::HashMap, fmt, sync::Arc, time::Duration};

use crate::{channel::ChannelName, limits::Rate};

/// The options of all channels of a namespace. The default has everything off but the length of
/// time that a stream's position is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelOptions {
    /// Most publications kept; 0 = no history.
    pub history_size: usize,
    /// How long a publication is kept; zero = no history.
    pub history_ttl: Duration,
    /// How long the position of a channel outlives its last publication.
    pub history_meta_ttl: Duration,
    /// Every subscription can be recovered, asked for or not.
    pub force_recovery: bool,
    /// A subscription that asks for it can be recovered.
    pub allow_recovery: bool,
    /// Every subscription is positioned, asked for or not.
    pub force_positioning: bool,
    /// A subscription that asks for it is positioned.
    pub allow_positioning: bool,
    /// What recovery brings.
    pub force_recovery_mode: RecoveryMode,
    /// Who is in the channel is known.
    pub presence: bool,
    /// Coming and going is announced to those who ask for it.
    pub join_leave: bool,
    /// ... and to those who do not.
    pub force_push_join_leave: bool,
    /// Users may subscribe without a token.
    pub allow_subscribe_for_client: bool,
    /// ... and so may anonymous clients.
    pub allow_subscribe_for_anonymous: bool,
    /// Subscribers may publish.
    pub allow_publish_for_subscriber: bool,
    /// Users may publish, subscribed or not.
    pub allow_publish_for_client: bool,
    /// What users may, as subscriber or client, anonymous clients may too.
    pub allow_publish_for_anonymous: bool,
    /// Subscribers may ask who is there.
    pub allow_presence_for_subscriber: bool,
    /// Users may ask who is there, subscribed or not.
    pub allow_presence_for_client: bool,
    /// What users may, as subscriber or client, anonymous clients may too.
    pub allow_presence_for_anonymous: bool,
    /// Subscribers may read the history.
    pub allow_history_for_subscriber: bool,
    /// Users may read the history, subscribed or not.
    pub allow_history_for_client: bool,
    /// What users may, as subscriber or client, anonymous clients may too.
    pub allow_history_for_anonymous: bool,
    /// The users named after `#` may subscribe without a token.
    pub allow_user_limited_channels: bool,
    /// Delta compressions that a subscription may ask for.
    pub allowed_delta_types: Vec<DeltaType>,
    /// Every publication of a client is sent as delta to those who negotiated one.
    pub delta_publish: bool,
    /// A payload may have no bytes, where that can be told from none.
    pub allow_empty_data: bool,
    /// Subscriptions may filter by tags.
    pub allow_tags_filter: bool,
    /// Most publications of one channel by the publishers of one node; absent = any number.
    pub publications_per_second: Option<Rate>,
    /// A subscriber that is behind gets the newest publication only.
    pub conflate: bool,
    /// What names in the namespace look like, behind the first `:`; absent = any name.
    pub channel_regex: Option<ChannelRegex>,
    /// Clients of the plain dialect may join.
    pub allow_plain_subscribe: bool,
    /// Clients of the plain dialect may publish.
    pub allow_plain_publish: bool,
}

/// What recovery brings to a subscription that was away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryMode {
    /// Every publication that was missed.
    #[default]
    Stream,
    /// The latest publication only.
    Cache,
}

/// How a publication can be sent as the difference to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaType {
    /// The delta format of the Fossil version control system.
    Fossil,
}

/// What of a channel's past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Most publications; at least 1.
    pub size: usize,
    /// How long each is kept; above zero.
    pub ttl: Duration,
    /// How long the position outlives the last publication.
    pub meta_ttl: Duration,
}

impl ChannelOptions {
    /// What is kept of a channel; `None` = nothing: publications are delivered at most once.
    #[must_use]
    pub fn retention(&self) -> Option<Retention> {
        let (size, ttl) = (self.history_size, self.history_ttl);
        let is_on = size > 0 && !ttl.is_zero();
        is_on.then_some(Retention { size, ttl, meta_ttl: self.history_meta_ttl })
    }

    /// Whether `channel` looks as the namespace wants it to.
    #[must_use]
    pub fn fits(&self, channel: &ChannelName) -> bool {
        let name = namespace_and_rest(channel).map_or(channel.as_str(), |(_, rest)| rest);
        self.channel_regex.as_ref().is_none_or(|regex| regex.0.is_match(name.as_bytes()))
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            history_size: 0,
            history_ttl: Duration::ZERO,
            history_meta_ttl: META_TTL,
            force_recovery: false,
            allow_recovery: false,
            force_positioning: false,
            allow_positioning: false,
            force_recovery_mode: RecoveryMode::Stream,
            presence: false,
            join_leave: false,
            force_push_join_leave: false,
            allow_subscribe_for_client: false,
            allow_subscribe_for_anonymous: false,
            allow_publish_for_subscriber: false,
            allow_publish_for_client: false,
            allow_publish_for_anonymous: false,
            allow_presence_for_subscriber: false,
            allow_presence_for_client: false,
            allow_presence_for_anonymous: false,
            allow_history_for_subscriber: false,
            allow_history_for_client: false,
            allow_history_for_anonymous: false,
            allow_user_limited_channels: false,
            allowed_delta_types: Vec::new(),
            delta_publish: false,
            allow_empty_data: false,
            allow_tags_filter: false,
            publications_per_second: None,
            conflate: false,
            channel_regex: None,
            allow_plain_subscribe: false,
            allow_plain_publish: false,
        }
    }
}

/// How long positions are remembered unless said otherwise.
const META_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A pattern for names of channels. It matches anywhere in the name unless it has `^` and `$`, and
/// in time linear in the name. Names are ASCII, so classes such as `\w` are too.
#[derive(Clone)]
pub struct ChannelRegex(regex::bytes::Regex);

/// The text is not a pattern, or one that takes more than a mebibyte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a regular expression: {0}")]
pub struct InvalidChannelRegex(String);

impl ChannelRegex {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`InvalidChannelRegex`], which says what is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, InvalidChannelRegex> {
        let mut builder = regex::bytes::RegexBuilder::new(pattern);
        let bounded = builder.unicode(false).size_limit(1 << 20).dfa_size_limit(1 << 20);
        bounded.build().map(Self).map_err(|error| {
            // The last line says what; those before it draw the place.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            InvalidChannelRegex(last.trim_start_matches("error: ").to_owned())
        })
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for ChannelRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq for ChannelRegex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// The name of a namespace: 2 to 64 bytes of `A-Z a-z 0-9 _ - .`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamespaceName(Box<str>);

/// The text names no namespace. The message states the whole rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a namespace's name is 2 to 64 bytes of A-Z a-z 0-9 _ - .")]
pub struct InvalidNamespaceName;

impl NamespaceName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidNamespaceName`] when the name is too short, too long or holds any other character.
    pub fn new(name: &str) -> Result<Self, InvalidNamespaceName> {
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if (2..=64).contains(&name.len()) && name.bytes().all(is_name_byte) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidNamespaceName)
        }
    }
}

impl Borrow<str> for NamespaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// All namespaces of a node.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    without_namespace: Arc<ChannelOptions>,
    named: HashMap<NamespaceName, Arc<ChannelOptions>>,
    /// Whether any of them conflates: where none does, nobody looks which.
    conflate: bool,
}

impl Namespaces {
    /// Namespaces by name, and the options of channels that have none. Of two with one name the
    /// later one counts.
    pub fn new(
        without_namespace: ChannelOptions,
        named: impl IntoIterator<Item = (NamespaceName, ChannelOptions)>,
    ) -> Self {
        let named = named.into_iter().map(|(name, options)| (name, Arc::new(options)));
        let named: HashMap<_, _> = named.collect();
        let conflate = without_namespace.conflate || named.values().any(|it| it.conflate);
        Self { without_namespace: Arc::new(without_namespace), named, conflate }
    }

    /// The options of a channel: those of the namespace that its name begins with, as `news` in
    /// `news:today` or `$news:today`. `None` when there is no such namespace.
    #[must_use]
    pub fn options(&self, channel: &ChannelName) -> Option<&Arc<ChannelOptions>> {
        match namespace_and_rest(channel) {
            None => Some(&self.without_namespace),
            Some((namespace, _)) => self.named.get(namespace),
        }
    }

    /// Whether a subscriber of the channel that is behind gets the newest publication only.
    #[must_use]
    pub fn conflates(&self, channel: &ChannelName) -> bool {
        self.conflate && self.options(channel).is_some_and(|options| options.conflate)
    }

    /// Whether any channel has a past, or is known who is there.
    #[must_use]
    pub fn keep_anything(&self) -> bool {
        let mut all = self.named.values().chain([&self.without_namespace]);
        all.any(|options| options.retention().is_some() || options.presence)
    }

    /// Whether there is a namespace of this name.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        self.named.contains_key(namespace)
    }
}

/// Whether a channel is private: its name begins with `$`, and it takes a token to subscribe.
#[must_use]
pub fn is_private(channel: &ChannelName) -> bool {
    channel.as_str().starts_with('$')
}

/// The users a channel is limited to: those named after `#`, with `,` between, as in
/// `dialog#42,43`. `None` when it is limited to nobody.
pub fn allowed_users(channel: &ChannelName) -> Option<impl Iterator<Item = &str>> {
    let (_, users) = channel.as_str().split_once('#')?;
    Some(users.split(','))
}

/// The channel of one user, in `namespace` unless that is empty: `#42` or `personal:#42`. `None`
/// for anonymous clients, and for a user whose name cannot stand in a channel's, alone.
#[must_use]
pub fn personal_channel(namespace: &str, user: &str) -> Option<ChannelName> {
    let colon = if namespace.is_empty() { "" } else { ":" };
    let is_one_user = !user.is_empty() && !user.contains(',');
    is_one_user.then(|| ChannelName::new(&format!("{namespace}{colon}#{user}")).ok())?
}

fn namespace_and_rest(channel: &ChannelName) -> Option<(&str, &str)> {
    let name = channel.as_str();
    name.strip_prefix('$').unwrap_or(name).split_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn sized(history_size: usize) -> ChannelOptions {
        ChannelOptions { history_size, ..ChannelOptions::default() }
    }

    #[test]
    fn the_part_before_the_first_colon_selects_the_options() {
        let news = NamespaceName::new("news").unwrap();
        let namespaces = Namespaces::new(sized(1), [(news, sized(2))]);
        let size = |name| namespaces.options(&channel(name)).map(|options| options.history_size);
        for (name, expected) in [
            ("today", Some(1)),
            ("$today", Some(1)),
            ("#42", Some(1)),
            ("news", Some(1)),
            ("news:", Some(2)),
            ("news:today", Some(2)),
            ("$news:today", Some(2)),
            ("news:a:b", Some(2)),
            ("News:today", None),
            ("$$news:today", None),
            ("other:today", None),
            (":today", None),
            ("$:today", None),
        ] {
            assert_eq!(size(name), expected, "{name}");
        }
        assert!(namespaces.contains("news") && !namespaces.contains(""));
    }

    #[test]
    fn history_takes_a_size_and_a_ttl() {
        let (ttl, meta_ttl) = (Duration::from_secs(5), Duration::from_secs(9));
        let kept = |history_size, history_ttl| {
            ChannelOptions { history_meta_ttl: meta_ttl, history_ttl, ..sized(history_size) }
                .retention()
        };
        assert_eq!(kept(0, ttl), None);
        assert_eq!(kept(3, Duration::ZERO), None);
        assert_eq!(kept(3, ttl), Some(Retention { size: 3, ttl, meta_ttl }));
    }

    #[test]
    fn a_pattern_is_held_against_the_name_behind_the_namespace() {
        let regex = |pattern| ChannelRegex::new(pattern).unwrap();
        let fits = |pattern, name| {
            let channel_regex = Some(regex(pattern));
            ChannelOptions { channel_regex, ..ChannelOptions::default() }.fits(&channel(name))
        };
        assert!(fits("^[a-z]+$", "news:today"));
        assert!(fits(r"^\w+$", "$news:today"));
        assert!(!fits("^[a-z]+$", "news:2"));
        assert!(!fits("^[a-z]+$", "news:a:b"));
        assert!(!fits("^[a-z]+$", "$today"));
        assert!(ChannelOptions::default().fits(&channel("any #thing")));
        let error = ChannelRegex::new("(").unwrap_err().to_string();
        assert_eq!(error, "not a regular expression: unclosed group");
        ChannelRegex::new("(a{1000}){1000}").unwrap_err();
    }

    #[test]
    fn names_tell_who_may_enter() {
        let users = |name| {
            let channel = channel(name);
            allowed_users(&channel)
                .map(|users| users.map(str::to_owned).collect::<Vec<_>>().join("|"))
        };
        assert_eq!(users("chat"), None);
        assert_eq!(users("dialog#42").as_deref(), Some("42"));
        assert_eq!(users("x:dialog#42,43").as_deref(), Some("42|43"));
        assert_eq!(users("dialog#").as_deref(), Some(""));
        assert_eq!(users("dialog#4#2").as_deref(), Some("4#2"));
        assert!(is_private(&channel("$a:b")) && !is_private(&channel("a:$b")));
        assert_eq!(personal_channel("", "42").unwrap().as_str(), "#42");
        assert_eq!(personal_channel("personal", "42").unwrap().as_str(), "personal:#42");
        for none in ["", "4,2", "jürgen", &"x".repeat(255)] {
            assert_eq!(personal_channel("", none), None);
        }
    }

    #[test]
    fn namespaces_have_names() {
        for (name, valid) in [
            ("ab", true),
            ("a.B-9_", true),
            (&*"x".repeat(64), true),
            (&*"x".repeat(65), false),
            ("a", false),
            ("", false),
            ("a:b", false),
            ("a b", false),
            ("$ab", false),
            ("äö", false),
        ] {
            assert_eq!(NamespaceName::new(name).is_ok(), valid, "{name:?}");
        }
    }
}
