//! `dunlin serve`: reads the configuration, starts logging and runs the node.

use std::process::ExitCode;

use super::flags::ConfigFlags;
use crate::{
    app,
    config::{Config, Loaded, Problems, insecure_modes},
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
