//! The command line.

use std::process::ExitCode;

/// Runs the program.
pub fn main() -> ExitCode {
    match crate::config::load(crate::config::Sources::default()) {
        Ok(loaded) => {
            crate::logging::start(&loaded.config.log);
            crate::app::run(&loaded.config).unwrap_or(ExitCode::FAILURE)
        }
        Err(_) => ExitCode::from(78),
    }
}
