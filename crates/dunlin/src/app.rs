//! Placeholder for the wiring.

use std::process::ExitCode;

use crate::config::Config;

/// Runs a node until it is told to leave.
pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    tracing::info!(node = config.node.name(), "would serve");
    Ok(ExitCode::SUCCESS)
}
