//! What no key can tell alone: bounds that depend on one another, and names that must parse.

use std::time::Duration;

use dunlin_core::{channel::ChannelName, ids::ShardId};

use super::Config;
use crate::logging;

/// Longest duration anybody can mean; beyond it deadlines would leave the clock's range.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Key and complaint, in the order of `default.toml`.
pub(super) fn problems(config: &Config) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut require = |holds: bool, key: &'static str, message: &str| {
        if !holds {
            found.push((key, message.to_owned()));
        }
    };
    names(config, &mut require);
    bounds(config, &mut require);
    times(config, &mut require);
    found
}

fn names(config: &Config, require: &mut impl FnMut(bool, &'static str, &str)) {
    require(
        config.redis.channel_prefix.len() <= 200,
        "redis.channel_prefix",
        "expected at most 200 bytes",
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
        logging::levels(&config.log.level).is_some(),
        "log.level",
        "expected off, error, warn, info, debug or trace, or levels per module as in \
         \"info,dunlin::front=debug\"",
    );
}

fn bounds(config: &Config, require: &mut impl FnMut(bool, &'static str, &str)) {
    let limits = &config.limits;
    require(config.shards <= ShardId::MAX, "shards", "expected at most 256");
    for (count, key) in [
        (config.redis.queue_messages, "redis.queue_messages"),
        (limits.message_bytes, "limits.message_bytes"),
        (limits.message_fragments, "limits.message_fragments"),
        (limits.handshakes, "limits.handshakes"),
        (limits.inbox_publications, "limits.inbox_publications"),
        (limits.control_rate, "limits.control_rate"),
        (limits.control_burst, "limits.control_burst"),
    ] {
        require(count >= 1, key, "expected at least 1");
    }
    require(
        (1024..=1 << 20).contains(&limits.header_bytes),
        "limits.header_bytes",
        "expected 1KiB to 1MiB",
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

fn times(config: &Config, require: &mut impl FnMut(bool, &'static str, &str)) {
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
        shutdown.timeout >= shutdown.accept_for.saturating_add(shutdown.drain),
        "shutdown.timeout",
        "expected at least shutdown.accept_for + shutdown.drain",
    );
}
