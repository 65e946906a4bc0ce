//! `dunlin completions SHELL`.

use std::process::ExitCode;

use super::print;

pub(super) fn run(
    shell: clap_complete::Shell,
    command: &mut clap::Command,
) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "dunlin", &mut script);
    print(&String::from_utf8(script)?)
}
