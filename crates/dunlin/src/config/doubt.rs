//! What works and is hardly meant: said at start and by `check-config`, never refused.

use dunlin_core::{
    limits::Deed,
    namespace::{ChannelOptions, RecoveryMode},
};

use super::Config;
use crate::jwks;

/// Shorter secrets are guessed from one token, or by asking often enough.
const SECRET_BYTES_MIN: usize = 16;

/// Key and doubt.
pub(super) fn doubts(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut doubt = |is_doubtful: bool, key: &str, message: &str| {
        if is_doubtful {
            found.push((key.to_owned(), message.to_owned()));
        }
    };
    secrets(config, &mut doubt);
    rates(config, &mut doubt);
    for (key, options) in config.channel.all() {
        history(config, options, &mut |is_doubtful, name, message| {
            doubt(is_doubtful, &key(name), message);
        });
        joins(config, options, &mut |is_doubtful, name, message| {
            doubt(is_doubtful, &key(name), message);
        });
    }
    doubt(
        !anybody_connects(config),
        "channel.without_namespace.allow_plain_subscribe",
        "nobody can connect: plain clients may join no channel, [client.token] has no key, and \
         anonymous clients are not let in",
    );
    found
}

fn secrets(config: &Config, doubt: &mut impl FnMut(bool, &str, &str)) {
    let (token, own) = (&config.client.token, &config.client.subscription_token);
    for (secrets, key) in [
        (&config.http_api.key, "http_api.key"),
        (&token.hmac_secret_key, "client.token.hmac_secret_key"),
        (&own.token.hmac_secret_key, "client.subscription_token.hmac_secret_key"),
    ] {
        let is_short = |secret: &String| secret.len() < SECRET_BYTES_MIN;
        let message = format!("has less than {SECRET_BYTES_MIN} bytes and can be guessed");
        doubt(secrets.expose().iter().any(is_short), key, &message);
    }
    for (age, key) in [
        (token.jwks_age_max, "client.token.jwks_age_max"),
        (own.token.jwks_age_max, "client.subscription_token.jwks_age_max"),
    ] {
        doubt(
            !age.is_zero() && age < 2 * jwks::REFRESH_INTERVAL,
            key,
            "is less than two fetches take: one that fails ends all keys of the set",
        );
    }
    doubt(
        own.token.has_keys() && !own.enabled,
        "client.subscription_token.enabled",
        "is false, so [client.token] stands for subscription tokens and the keys here for nothing",
    );
}

fn rates(config: &Config, doubt: &mut impl FnMut(bool, &str, &str)) {
    let limits = &config.rate_limits;
    let all = [("user", &limits.user), ("address", &limits.address)];
    for (scope, together) in all {
        for deed in Deed::ALL {
            let (alone, together) = (limits.connection.rates().of(deed), together.rates().of(deed));
            let is_less = together.zip(alone).is_some_and(|(together, alone)| {
                together.per_second < alone.per_second || together.burst < alone.burst
            });
            let key = format!("rate_limits.{scope}.{}", deed.label());
            let message = "is less than one connection may do: see rate_limits.connection";
            doubt(is_less, &key, message);
        }
    }
    for (scope, rates) in [("connection", &limits.connection), ("user", &limits.user)] {
        doubt(
            rates
                .subscribes
                .is_some_and(|rate| (rate.burst as usize) < config.client.channel_limit),
            &format!("rate_limits.{scope}.subscribes"),
            "has a burst below client.channel_limit: whoever comes back to that many channels is \
             refused some of them at first",
        );
        doubt(
            rates.bytes.is_some_and(|rate| (rate.burst as usize) < config.limits.message_bytes),
            &format!("rate_limits.{scope}.bytes"),
            "has a burst below limits.message_bytes: whoever sends so large a message is not read \
             from for a while",
        );
    }
}

fn history(config: &Config, options: &ChannelOptions, doubt: &mut impl FnMut(bool, &str, &str)) {
    let recovers = options.force_recovery || options.allow_recovery;
    let is_cache = options.force_recovery_mode == RecoveryMode::Cache;
    doubt(
        recovers
            && !is_cache
            && options.history_size > config.client.recovery_max_publication_limit,
        "history_size",
        "is more than client.recovery_max_publication_limit: whoever missed more than that starts \
         anew, however much is kept",
    );
    doubt(
        is_cache && !recovers,
        "force_recovery_mode",
        "changes nothing while neither force_recovery nor allow_recovery is true",
    );
}

fn joins(config: &Config, options: &ChannelOptions, doubt: &mut impl FnMut(bool, &str, &str)) {
    let may_see = config.client.insecure
        || options.force_push_join_leave
        || options.allow_presence_for_subscriber
        || options.allow_presence_for_client;
    doubt(
        options.join_leave && !may_see,
        "join_leave",
        "nobody may see it: it takes force_push_join_leave, allow_presence_for_subscriber or \
         allow_presence_for_client",
    );
    doubt(
        options.force_push_join_leave && !options.join_leave,
        "force_push_join_leave",
        "changes nothing while join_leave is false",
    );
}

fn anybody_connects(config: &Config) -> bool {
    let client = &config.client;
    client.insecure
        || client.allow_anonymous_connect_without_token
        || client.token.has_keys()
        || config.channel.all().any(|(_, options)| options.allow_plain_subscribe)
}
