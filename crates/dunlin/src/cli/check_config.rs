//! `dunlin check-config`: the effective configuration as a TOML file, and where it was changed.

use std::{fmt::Write as _, process::ExitCode};

use super::{flags::ConfigFlags, print};
use crate::front::tls;

pub(super) fn run(flags: ConfigFlags) -> anyhow::Result<ExitCode> {
    let loaded = flags.load()?;
    tls::load(&loaded.config.tls)?;
    loaded.config.redis.authorities_pem()?;
    let mut text = String::from("# The effective configuration. It is good.\n");
    for (key, place) in &loaded.places {
        writeln!(text, "# {key} is set by {place}")?;
    }
    for doubt in &loaded.doubts {
        writeln!(text, "# warning: {doubt}")?;
    }
    text.push('\n');
    text.push_str(&toml::to_string(&loaded.config)?);
    print(&text)
}
