//! `dunlin check-token`: whether a node of this configuration believes a token, and what it says.

use std::{
    fmt::{self, Write as _},
    io::{self, Read},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Args;
use dunlin_core::auth::{
    TOKEN_BYTES_MAX, TokenError,
    claims::{ConnectionClaims, SubscriptionClaims},
    keyring::Keyring,
};

use super::{flags::ConfigFlags, print};
use crate::{
    clock,
    config::TokenConfig,
    jwks::{self, Address},
};

#[derive(Debug, Args)]
pub(super) struct CheckTokenFlags {
    /// The token; `-` reads it from standard input
    #[arg(value_name = "TOKEN")]
    token: String,
    #[command(flatten)]
    config: ConfigFlags,
}

pub(super) fn run(flags: CheckTokenFlags) -> anyhow::Result<ExitCode> {
    let client = flags.config.load()?.config.client;
    let token = match flags.token.as_str() {
        "-" => from_stdin()?,
        token => token.to_owned(),
    };
    let now = clock::unix_now();
    let refused = match keyring(&client.token)?.verify_connection(&token, now) {
        Ok(claims) => return print(&of_connection(&claims, now)?),
        // Which of the two it is shows in its claims, but its keys may be others.
        Err(error @ (TokenError::Invalid(_) | TokenError::UnknownKey)) => error,
        Err(error) => return Err(error.into()),
    };
    match keyring(client.subscription_token())?.verify_subscription(&token, now) {
        Ok(claims) => print(&of_subscription(&claims, now)?),
        Err(error) if refused == TokenError::OF_A_SUBSCRIPTION => {
            bail!("{refused}, and as such: {error}")
        }
        Err(_) => Err(refused.into()),
    }
}

fn from_stdin() -> anyhow::Result<String> {
    let mut token = String::new();
    // Room for white space around it; what is longer is no token.
    let bytes_max = u64::try_from(2 * TOKEN_BYTES_MAX)?;
    io::stdin().take(bytes_max).read_to_string(&mut token).context("reading the token")?;
    Ok(token.trim().to_owned())
}

/// The keys, those of the key set fetched now.
fn keyring(config: &TokenConfig) -> anyhow::Result<Keyring> {
    let keyring = config.keyring()?;
    let Some(address) = &config.jwks_public_endpoint else {
        let advice = "no key is configured: every token is refused until [client.token] has one";
        ensure!(!keyring.is_empty(), advice);
        return Ok(keyring);
    };
    let address: Address = address.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let document = runtime.block_on(jwks::fetch(&address));
    let document = document.with_context(|| format!("fetching {address}"))?;
    Ok(keyring.with_jwks(&document)?)
}

fn of_connection(claims: &ConnectionClaims, now: u64) -> Result<String, fmt::Error> {
    let mut text = String::from("a good connection token\n");
    writeln!(text, "user: {:?}", claims.user)?;
    times(&mut text, claims.expire_at, claims.issued_at, now)?;
    details(
        &mut text,
        claims.token_id.as_deref(),
        [("info", &claims.info), ("meta", &claims.meta)],
    )?;
    for (channel, options) in &claims.subscriptions {
        writeln!(text, "subscription: {channel}")?;
        details(&mut text, None, [("  info", &options.info), ("  data", &options.data)])?;
    }
    Ok(text)
}

fn of_subscription(claims: &SubscriptionClaims, now: u64) -> Result<String, fmt::Error> {
    let mut text = String::from("a good subscription token\n");
    writeln!(text, "user: {:?}\nchannel: {}", claims.user, claims.channel)?;
    times(&mut text, claims.expire_at, claims.issued_at, now)?;
    details(&mut text, claims.token_id.as_deref(), [("info", &claims.info)])?;
    Ok(text)
}

fn times(
    text: &mut String,
    expire_at: Option<u64>,
    issued_at: Option<u64>,
    now: u64,
) -> fmt::Result {
    match expire_at {
        None => writeln!(text, "expires: never")?,
        Some(at) => {
            let left = Duration::from_secs(at.saturating_sub(now));
            writeln!(text, "expires: {at}, in {}", humantime::format_duration(left))?;
        }
    }
    issued_at.map_or(Ok(()), |at| writeln!(text, "issued: {at}"))
}

fn details<const N: usize>(
    text: &mut String,
    token_id: Option<&str>,
    values: [(&str, &Option<Bytes>); N],
) -> fmt::Result {
    if let Some(id) = token_id {
        writeln!(text, "id: {id:?}")?;
    }
    for (name, value) in values {
        if let Some(value) = value {
            writeln!(text, "{name}: {}", String::from_utf8_lossy(value))?;
        }
    }
    Ok(())
}
