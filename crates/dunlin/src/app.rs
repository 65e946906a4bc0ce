//! Placeholder for the wiring.

use std::process::ExitCode;

use crate::{config::Config, front::tls, nofile};

/// Runs a node until it is told to leave.
pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let _connections = nofile::connections(&config.limits);
    if let Some(tls) = tls::load(&config.tls)? {
        tls.certificate.reload()?;
        drop(tls.server);
    }
    Ok(ExitCode::SUCCESS)
}
