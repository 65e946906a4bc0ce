//! `dunlin serve`: reads the configuration, starts logging and runs the node.

use std::process::ExitCode;

use super::flags::ConfigFlags;
use crate::{
    app,
    config::{Config, Loaded, Problems},
    logging,
};

pub(super) fn run(flags: ConfigFlags) -> anyhow::Result<ExitCode> {
    let file = flags.config.clone();
    let Loaded { config, doubts, .. } = flags.load()?;
    logging::start(&config.log);
    match &file {
        Some(path) => greet(&config, &path.display().to_string()),
        None => greet(&config, "defaults, environment and flags"),
    }
    for doubt in doubts {
        tracing::warn!("{doubt}");
    }
    app::run(&config).or_else(|error| {
        // The configuration's problems are for people, and nothing may end without a word.
        if error.is::<Problems>() || !tracing::enabled!(tracing::Level::ERROR) {
            return Err(error);
        }
        tracing::error!("{error:#}");
        Ok(ExitCode::FAILURE)
    })
}

fn greet(config: &Config, from: &str) {
    let broker = match &config.redis.url {
        Some(url) => url.to_string(),
        None => "memory".to_owned(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node.name(),
        pid = std::process::id(),
        config = from,
        broker,
        "dunlin starts"
    );
    if config.redis.url.is_none() {
        tracing::info!("no redis.url: this node is alone, publications stay on it");
    }
    for (key, what) in insecure_modes(config) {
        tracing::warn!("INSECURE: {key} = true, so {what}; never do that where strangers are");
    }
}

/// The modes for trials that are on, and what they open.
fn insecure_modes(config: &Config) -> impl Iterator<Item = (&'static str, &'static str)> {
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
