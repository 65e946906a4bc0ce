//! `dunlin gen-token`: a token for trials, signed with the configured secret.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use dunlin_core::{
    auth::{
        ID_BYTES_MAX,
        signing::{self, sign},
    },
    channel::ChannelName,
};
use serde::Serialize;

use super::{flags::ConfigFlags, print};
use crate::clock;

#[derive(Debug, Args)]
pub(super) struct GenTokenFlags {
    /// The user it is for [default: none, an anonymous client]
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
    /// How long it is good; 0 = for ever
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    ttl: Duration,
    /// Make a subscription token, for this channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// How to sign
    #[arg(long, value_enum, default_value = "hs256")]
    algorithm: Algorithm,
    /// Print the token and nothing else
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
}

/// What is put into the token. It says when it was issued, so that it can be revoked with others.
#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
}

pub(super) fn run(flags: GenTokenFlags) -> anyhow::Result<ExitCode> {
    let config = flags.config.load()?.config;
    let (keys, setting) = match &flags.channel {
        None => (&config.client.token, "client.token.hmac_secret_key"),
        Some(_) => (config.client.subscription_token(), "the hmac_secret_key of [client.token]"),
    };
    let Some(secret) = keys.hmac_secret_key.expose().first() else {
        bail!("there is no secret to sign with: set {setting}");
    };
    if flags.user.len() > ID_BYTES_MAX {
        bail!("a user has at most {ID_BYTES_MAX} bytes");
    }
    if let Some(channel) = &flags.channel {
        ChannelName::new(channel).context("--channel")?;
    }
    let now = clock::unix_now();
    let ttl = flags.ttl.as_secs();
    let claims = serde_json::to_string(&Claims {
        sub: &flags.user,
        channel: flags.channel.as_deref(),
        iat: now,
        exp: (ttl > 0).then(|| now.saturating_add(ttl)),
        aud: keys.audience.as_deref(),
        iss: keys.issuer.as_deref(),
    })?;
    let hash = match flags.algorithm {
        Algorithm::Hs256 => signing::Hash::Sha256,
        Algorithm::Hs384 => signing::Hash::Sha384,
        Algorithm::Hs512 => signing::Hash::Sha512,
    };
    let token = sign(&claims, hash, secret);
    match flags.quiet {
        true => print(&format!("{token}\n")),
        false => print(&format!("# {claims}\n{token}\n")),
    }
}

/// A duration as the configuration has them.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    text.parse().map(Duration::from_secs).or_else(|_| humantime::parse_duration(text))
}
