//! What no key can tell alone: bounds that depend on one another, and names that must parse.

use std::{collections::HashSet, time::Duration};

use dunlin_core::{
    channel::ChannelName,
    namespace::{ChannelOptions, NamespaceName},
};

use super::{Config, keys, redis_url::RedisUrls};
use crate::{bounds::SHARDS_MAX, jwks::Address, logging};

/// Longest duration anybody can mean; beyond it deadlines would leave the clock's range.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Largest publication that every node takes from Redis.
const REDIS_BYTES_MAX: usize = 16 << 20;

/// Key and complaint.
pub(super) fn problems(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut require = |holds: bool, key: &str, message: &str| {
        if !holds {
            found.push((key.to_owned(), message.to_owned()));
        }
    };
    names(config, &mut require);
    namespaces(config, &mut require);
    client(config, &mut require);
    bounds(config, &mut require);
    times(config, &mut require);
    found
}

fn names(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    require(
        config.redis.channel_prefix.len() <= 200,
        "redis.channel_prefix",
        "expected at most 200 bytes",
    );
    require(
        !config.redis.url.as_ref().is_some_and(RedisUrls::is_cluster)
            || !config.redis.channel_prefix.contains(['{', '}']),
        "redis.channel_prefix",
        "expected no { and no }: in a cluster they tell which server has a channel",
    );
    require(
        ChannelName::plain(&config.plain.default_channel).is_ok(),
        "plain.default_channel",
        "expected a channel's name: 1-200 bytes of A-Z a-z 0-9 _ - = @ , . ; :",
    );
    let tls = &config.tls;
    require(
        tls.cert_file.is_some() || tls.key_file.is_none(),
        "tls.cert_file",
        "expected a file: tls.key_file is set, and they go together",
    );
    require(
        tls.key_file.is_some() || tls.cert_file.is_none(),
        "tls.key_file",
        "expected a file: tls.cert_file is set, and they go together",
    );
    require(
        !config.proxy.protocol || !config.proxy.trusted.is_empty(),
        "proxy.protocol",
        "expected false, or proxy.trusted set: headers are taken from nobody else",
    );
    require(
        logging::levels(&config.log.level).is_some(),
        "log.level",
        "expected off, error, warn, info, debug or trace, or levels per module as in \
         \"info,dunlin::front=debug\"",
    );
}

fn namespaces(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    let mut names = HashSet::new();
    for (index, namespace) in config.channel.namespaces.iter().enumerate() {
        let key = keys::of_namespace(index, "name");
        let name = NamespaceName::new(&namespace.name);
        require(name.is_ok(), &key, "expected a namespace's name: 2-64 bytes of A-Z a-z 0-9 _ - .");
        require(names.insert(&namespace.name), &key, "expected a name that no other has");
    }
    for (key, options) in config.channel.all() {
        history(options, &mut |holds, name, message| require(holds, &key(name), message));
        require(
            !options.conflate || can_conflate(options),
            &key("conflate"),
            "expected false, or no history, no join_leave and no allowed_delta_types: subscribers \
             would miss what these promise",
        );
    }
    let namespaces = config.channel.namespaces();
    if let Ok(channel) = ChannelName::plain(&config.plain.default_channel) {
        require(
            namespaces.options(&channel).is_some(),
            "plain.default_channel",
            "expected a channel whose namespace is in channel.namespaces",
        );
    }
    let personal = &config.client.subscribe_to_user_personal_channel.namespace;
    require(
        personal.is_empty() || namespaces.contains(personal),
        "client.subscribe_to_user_personal_channel.namespace",
        "expected a namespace that is in channel.namespaces",
    );
}

/// Whether each publication can do without the one before it.
fn can_conflate(options: &ChannelOptions) -> bool {
    options.retention().is_none() && !options.join_leave && options.allowed_delta_types.is_empty()
}

fn history(options: &ChannelOptions, require: &mut impl FnMut(bool, &str, &str)) {
    let has_size = options.history_size > 0;
    let has_ttl = !options.history_ttl.is_zero();
    require(has_size || !has_ttl, "history_size", "expected more than 0: history_ttl is set");
    require(has_ttl || !has_size, "history_ttl", "expected more than 0s: history_size is set");
    require(
        options.history_meta_ttl >= options.history_ttl,
        "history_meta_ttl",
        "expected at least history_ttl",
    );
    for (duration, key) in
        [(options.history_ttl, "history_ttl"), (options.history_meta_ttl, "history_meta_ttl")]
    {
        require(duration <= LONGEST, key, "expected at most a year");
    }
    for (is_on, key) in [
        (options.force_recovery, "force_recovery"),
        (options.allow_recovery, "allow_recovery"),
        (options.force_positioning, "force_positioning"),
        (options.allow_positioning, "allow_positioning"),
    ] {
        let has_history = options.retention().is_some();
        require(has_history || !is_on, key, "expected false, or history_size and history_ttl set");
    }
}

fn client(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    let client = &config.client;
    for (duration, key) in [
        (client.ping_interval, "client.ping_interval"),
        (client.pong_timeout, "client.pong_timeout"),
        (client.stale_close_delay, "client.stale_close_delay"),
        (client.expired_close_delay, "client.expired_close_delay"),
        (client.expired_sub_close_delay, "client.expired_sub_close_delay"),
        (client.token.leeway, "client.token.leeway"),
        (client.subscription_token.token.leeway, "client.subscription_token.leeway"),
    ] {
        require(duration <= LONGEST, key, "expected at most a year");
    }
    require(
        !client.stale_close_delay.is_zero(),
        "client.stale_close_delay",
        "expected more than 0s",
    );
    // The protocol tells clients of it in whole seconds.
    require(
        client.ping_interval.subsec_nanos() == 0,
        "client.ping_interval",
        "expected whole seconds",
    );
    if !client.ping_interval.is_zero() {
        require(
            !client.pong_timeout.is_zero() && client.pong_timeout < client.ping_interval,
            "client.pong_timeout",
            "expected more than 0s and less than client.ping_interval",
        );
    }
    for (count, key) in [
        (client.channel_limit, "client.channel_limit"),
        (client.history_max_publication_limit, "client.history_max_publication_limit"),
        (client.recovery_max_publication_limit, "client.recovery_max_publication_limit"),
        (config.http_api.body_bytes, "http_api.body_bytes"),
    ] {
        require(count >= 1, key, "expected at least 1");
    }
    for (token, section) in [
        (&client.token, "client.token"),
        (&client.subscription_token.token, "client.subscription_token"),
    ] {
        let address = token.jwks_public_endpoint.as_deref().map(str::parse::<Address>);
        if let Some(Err(error)) = address {
            require(false, &format!("{section}.jwks_public_endpoint"), &error.to_string());
        }
        if let Err(error) = token.keyring() {
            require(false, section, &format!("expected keys that can be used: {error}"));
        }
    }
    require(
        config
            .internal
            .listen
            .is_none_or(|address| address != config.listen || address.port() == 0),
        "internal.listen",
        "expected another address than listen",
    );
}

fn bounds(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    let limits = &config.limits;
    require(config.shards <= SHARDS_MAX, "shards", "expected at most 255");
    for (count, key) in [
        (config.redis.queue_messages, "redis.queue_messages"),
        (limits.message_bytes, "limits.message_bytes"),
        (limits.message_fragments, "limits.message_fragments"),
        (limits.handshakes, "limits.handshakes"),
        (limits.inbox_publications, "limits.inbox_publications"),
        (limits.control_rate, "limits.control_rate"),
        (limits.control_burst, "limits.control_burst"),
        (limits.address_connect_burst, "limits.address_connect_burst"),
    ] {
        require(count >= 1, key, "expected at least 1");
    }
    require(
        (8 << 10..=1 << 20).contains(&limits.header_bytes),
        "limits.header_bytes",
        "expected 8KiB to 1MiB",
    );
    require(config.redis.queue_bytes >= 64 << 10, "redis.queue_bytes", "expected at least 64KiB");
    require(
        config.redis.url.is_none()
            || config.http_api.body_bytes <= limits.message_bytes.max(REDIS_BYTES_MAX),
        "http_api.body_bytes",
        "expected at most 16MiB, or limits.message_bytes if that is more: redis brings no more",
    );
    require(
        u32::try_from(limits.control_rate.max(limits.control_burst)).is_ok(),
        "limits.control_rate",
        "expected control_rate and control_burst below 4294967296",
    );
    require(
        u32::try_from(limits.message_bytes).is_ok(),
        "limits.message_bytes",
        "expected less than 4GiB",
    );
}

fn times(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    let (limits, ws, shutdown) = (&config.limits, &config.ws, &config.shutdown);
    for (duration, key) in [
        (config.redis.wait, "redis.wait"),
        (config.redis.queue_age, "redis.queue_age"),
        (limits.message_age, "limits.message_age"),
        (limits.backlog_age, "limits.backlog_age"),
        (limits.handshake_age, "limits.handshake_age"),
        (ws.ping_interval, "ws.ping_interval"),
        (ws.pong_timeout, "ws.pong_timeout"),
        (shutdown.accept_for, "shutdown.accept_for"),
        (shutdown.drain, "shutdown.drain"),
        (shutdown.timeout, "shutdown.timeout"),
    ] {
        require(duration <= LONGEST, key, "expected at most a year");
    }
    for (duration, key) in [
        (config.redis.queue_age, "redis.queue_age"),
        (limits.message_age, "limits.message_age"),
        (limits.backlog_age, "limits.backlog_age"),
        (limits.handshake_age, "limits.handshake_age"),
    ] {
        require(!duration.is_zero(), key, "expected more than 0s");
    }
    if !ws.ping_interval.is_zero() {
        require(
            !ws.pong_timeout.is_zero() && ws.pong_timeout < ws.ping_interval,
            "ws.pong_timeout",
            "expected more than 0s and less than ws.ping_interval",
        );
    }
    require(
        shutdown.timeout.saturating_sub(shutdown.reserve())
            >= shutdown.accept_for.saturating_add(shutdown.drain),
        "shutdown.timeout",
        "expected at least shutdown.accept_for + shutdown.drain, and 2s (or half of both, if that \
         is less) to take leave",
    );
}
