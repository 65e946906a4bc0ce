//! `dunlin version`.

use std::process::ExitCode;

use super::print;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    print(concat!("dunlin ", env!("CARGO_PKG_VERSION"), "\n"))
}
