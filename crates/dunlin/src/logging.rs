//! Log lines to standard error: text for people, JSON for programs.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt};

use crate::config::{LogConfig, LogFormat};

/// Starts logging, once per process; a second call changes nothing.
pub(crate) fn start(config: &LogConfig) {
    let is_terminal = io::stderr().is_terminal();
    let to_stderr =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let layer = match config.format {
        LogFormat::Json => to_stderr.json().flatten_event(true).boxed(),
        LogFormat::Auto if !is_terminal => to_stderr.json().flatten_event(true).boxed(),
        LogFormat::Auto | LogFormat::Text => to_stderr.with_ansi(is_terminal).boxed(),
    };
    let levels = levels(&config.level).expect("the configuration was checked");
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(levels));
    let _already_started = tracing::subscriber::set_global_default(subscriber);
}

/// Reads `info` or `info,dunlin::front=debug`; `None` if it is neither.
pub(crate) fn levels(text: &str) -> Option<Targets> {
    let known = |level: &str| level.trim().parse::<LevelFilter>().is_ok() && !level.is_empty();
    // A bare word that is no level would pass for a module's name: a misspelt level must not.
    text.split(',')
        .all(|part| match part.split_once('=') {
            Some((module, level)) => !module.trim().is_empty() && known(level),
            None => known(part),
        })
        .then(|| text.parse().ok())
        .flatten()
}
