//! `dunlin man`: one page for all verbs, for `dunlin man | man -l -`.

use std::process::ExitCode;

use super::print;

pub(super) fn run(command: clap::Command) -> anyhow::Result<ExitCode> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    print(&String::from_utf8(page)?)
}
