//! `mode = "production"`: what is refused where strangers are, though it works.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Config, Secrets};

/// Where a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Where people try things out.
    Development,
    /// Where strangers are.
    Production,
}

/// Key and complaint, nothing in another mode. `is_written` tells whether somebody set a key.
pub(super) fn problems(
    config: &Config,
    is_written: impl Fn(&str) -> bool,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if config.mode != Mode::Production {
        return found;
    }
    let mut require = |holds: bool, key: &str, message: &str| {
        if !holds {
            found.push((key.to_owned(), format!("mode is production: {message}")));
        }
    };
    trials(config, &mut require);
    strangers(config, is_written, &mut require);
    pages(config, &mut require);
    secrets(config, &mut require);
    addresses(config, &mut require);
    found
}

/// The modes for trials that are on, and what they open.
pub(crate) fn insecure_modes(
    config: &Config,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let client = &config.client;
    let (token, subscription_token) = (&client.token, &client.subscription_token.token);
    let modes = [
        (client.insecure, "client.insecure", "everybody may connect, subscribe and publish"),
        (
            token.insecure_skip_signature_verify,
            "client.token.insecure_skip_signature_verify",
            "everybody can be any user",
        ),
        (
            subscription_token.insecure_skip_signature_verify,
            "client.subscription_token.insecure_skip_signature_verify",
            "everybody can enter any channel",
        ),
        (config.http_api.insecure, "http_api.insecure", "everybody may call the http api"),
    ];
    modes.into_iter().filter(|(is_on, ..)| *is_on).map(|(_, key, what)| (key, what))
}

fn trials(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    for (key, what) in insecure_modes(config) {
        require(false, key, &format!("expected false, or {what}"));
    }
}

/// Who needs no token.
fn strangers(
    config: &Config,
    is_written: impl Fn(&str) -> bool,
    require: &mut impl FnMut(bool, &str, &str),
) {
    let (client, options) = (&config.client, &config.channel.without_namespace);
    for (is_on, key, what) in [
        (
            options.allow_plain_subscribe,
            "channel.without_namespace.allow_plain_subscribe",
            "anybody joins any channel without a namespace",
        ),
        (
            options.allow_plain_subscribe && options.allow_plain_publish,
            "channel.without_namespace.allow_plain_publish",
            "anybody who joins such a channel publishes to it",
        ),
    ] {
        let message = format!("expected false; or true in so many words, if you mean that {what}");
        require(!is_on || is_written(key), key, &message);
    }
    let is_open = client.allow_anonymous_connect_without_token
        || config.channel.all().any(|(_, options)| options.allow_plain_subscribe);
    require(
        !is_open || config.limits.address_connections > 0,
        "limits.address_connections",
        "expected more than 0: clients need no token, so one of them could take all connections",
    );
}

fn pages(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    for pattern in &config.client.allowed_origins {
        require(
            !pattern.is_of_all(),
            "client.allowed_origins",
            &format!("expected no {pattern}: that is nearly everybody's page"),
        );
    }
}

/// A key of HS256 has as many bytes as its signature (RFC 7518, 3.2).
const HMAC_BYTES_MIN: usize = 32;
const KEY_BYTES_MIN: usize = 16;

/// Less different characters than that are no key that a machine has drawn.
const CHARACTERS_MIN: usize = 8;

/// What stands in examples.
const EXAMPLES: [&str; 7] =
    ["secret", "password", "changeme", "change-me", "example", "placeholder", "insecure"];

fn secrets(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    let (token, own) = (&config.client.token, &config.client.subscription_token.token);
    for (secrets, key, bytes_min) in [
        (&config.http_api.key, "http_api.key", KEY_BYTES_MIN),
        (&token.hmac_secret_key, "client.token.hmac_secret_key", HMAC_BYTES_MIN),
        (&own.hmac_secret_key, "client.subscription_token.hmac_secret_key", HMAC_BYTES_MIN),
    ] {
        let message = format!("expected {bytes_min} bytes or more, as from `openssl rand -hex 32`");
        require(all(secrets, |secret| secret.len() >= bytes_min), key, &message);
        require(
            all(secrets, |secret| secret.len() < bytes_min || !is_made_up(secret)),
            key,
            "expected random bytes, not what a person made up or an example shows, as from \
             `openssl rand -hex 32`",
        );
    }
}

fn all(secrets: &Secrets, holds: impl Fn(&str) -> bool) -> bool {
    secrets.expose().iter().all(|secret| holds(secret))
}

fn is_made_up(secret: &str) -> bool {
    let secret = secret.to_ascii_lowercase();
    let mut characters: Vec<char> = secret.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    characters.len() < CHARACTERS_MIN || EXAMPLES.iter().any(|word| secret.contains(word))
}

fn addresses(config: &Config, require: &mut impl FnMut(bool, &str, &str)) {
    match config.internal.listen {
        None => require(
            false,
            "internal.listen",
            "expected an address of its own for the API, metrics and health, where clients do not \
             come, as in 127.0.0.1:8081",
        ),
        Some(address) => require(
            !is_public(address.ip()),
            "internal.listen",
            "expected an address that the internet does not reach: metrics need no key",
        ),
    }
    require(
        config.tls.cert_file.is_some() || !config.proxy.trusted.is_empty(),
        "tls.cert_file",
        "expected a certificate, or proxy.trusted set to where the proxy is that has one: tokens \
         would be there for others to read",
    );
    require(
        config.proxy.trusted.iter().all(|network| network.prefix_len() > 0),
        "proxy.trusted",
        "expected networks of proxies, not everybody's: strangers could say who they are",
    );
}

/// Whether the address is one of the internet's. That it is all addresses of this machine says
/// nothing: containers have no other way.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            // 100.64.0.0/10 is for providers' own networks, and clouds'.
            let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            !address.is_private()
                && !address.is_loopback()
                && !address.is_link_local()
                && !address.is_unspecified()
                && !is_shared
        }
        IpAddr::V6(address) => address.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    /// What a careful operator writes.
    const GOOD: &str = r#"
        mode = "production"
        [channel.without_namespace]
        allow_plain_subscribe = false
        [client.token]
        hmac_secret_key = "7b1f0c55a94e2d38c6a07d9be1f4825a"
        [http_api]
        key = "e0c4b7d19a563f82"
        [internal]
        listen = "10.0.0.5:8081"
        [proxy]
        trusted = ["10.0.0.0/8"]
    "#;

    /// The keys that are complained about, when `from` is replaced in [`GOOD`].
    fn keys(from: &str, to: &str) -> Vec<String> {
        assert!(GOOD.contains(from), "{from}");
        match parse(&GOOD.replacen(from, to, 1)) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.into_iter().filter_map(|problem| problem.key).collect(),
        }
    }

    #[test]
    fn each_danger_is_refused_by_its_key() {
        assert_eq!(keys("", ""), [""; 0]);
        let section = "[client.token]";
        let also = |text: &str| format!("{text}\n{section}");
        for (from, to, key) in [
            (section, also("[client]\ninsecure = true"), "client.insecure"),
            (
                section,
                format!("{section}\ninsecure_skip_signature_verify = true"),
                "client.token.insecure_skip_signature_verify",
            ),
            ("[http_api]", "[http_api]\ninsecure = true".to_owned(), "http_api.insecure"),
            (
                "allow_plain_subscribe = false",
                "allow_plain_subscribe = false\n[limits]\naddress_connections = 0".to_owned(),
                "",
            ),
            (
                section,
                also("[client]\nallow_anonymous_connect_without_token = true"),
                "limits.address_connections",
            ),
            (
                section,
                also("[client]\nallowed_origins = [\"https://*.com\"]"),
                "client.allowed_origins",
            ),
            (section, also("[client]\nallowed_origins = [\"https://*.example.com\"]"), ""),
            ("7b1f0c55", "7b1f0c5".to_owned(), "client.token.hmac_secret_key"),
            ("7b1f0c55a94e2d38", "my-token-secret-".to_owned(), "client.token.hmac_secret_key"),
            ("e0c4b7d19a563f82", "aaaaaaaabbbbbbbb".to_owned(), "http_api.key"),
            ("e0c4b7d19a563f82", "e0c4b7d".to_owned(), "http_api.key"),
            ("10.0.0.5:8081", String::new(), "internal.listen"),
            ("10.0.0.5:8081", "203.0.113.5:8081".to_owned(), "internal.listen"),
            ("10.0.0.5:8081", "[2001:db8::5]:8081".to_owned(), "internal.listen"),
            ("10.0.0.5:8081", "0.0.0.0:8081".to_owned(), ""),
            ("10.0.0.5:8081", "[fd00::5]:8081".to_owned(), ""),
            ("[\"10.0.0.0/8\"]", "[]".to_owned(), "tls.cert_file"),
            ("[\"10.0.0.0/8\"]", "[\"0.0.0.0/0\"]".to_owned(), "proxy.trusted"),
        ] {
            let expected: Vec<_> = Some(key).filter(|key| !key.is_empty()).into_iter().collect();
            assert_eq!(keys(from, &to), expected, "{to}");
        }
    }

    #[test]
    fn who_may_come_without_a_token_is_said_in_so_many_words() {
        let open = "channel.without_namespace.allow_plain_subscribe";
        let write = "channel.without_namespace.allow_plain_publish";
        let bound = "limits.address_connections";
        let line = "allow_plain_subscribe = false";
        assert_eq!(keys(line, ""), [open, write, bound]);
        assert_eq!(keys(line, "allow_plain_subscribe = true"), [write, bound]);
        let bounded = "allow_plain_subscribe = true\nallow_plain_publish = true\n[limits]\n\
                       address_connections = 100";
        assert_eq!(keys(line, bounded), [""; 0]);
    }

    #[test]
    fn all_is_said_at_once_and_elsewhere_nothing_is() {
        let text = "[client]\ninsecure = true\n[http_api]\ninsecure = true";
        parse(text).unwrap();
        let problems = parse(&format!("mode = \"production\"\n{text}")).unwrap_err();
        let keys: Vec<_> = problems.0.iter().filter_map(|problem| problem.key.as_deref()).collect();
        let expected = [
            "client.insecure",
            "http_api.insecure",
            "channel.without_namespace.allow_plain_subscribe",
            "channel.without_namespace.allow_plain_publish",
            "limits.address_connections",
            "internal.listen",
            "tls.cert_file",
        ];
        assert_eq!(keys, expected);
        assert!(problems.0.iter().all(|problem| problem.message.contains("mode is production")));
    }
}
