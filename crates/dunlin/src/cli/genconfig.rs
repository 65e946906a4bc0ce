//! `dunlin genconfig`: the documented defaults, to be written to a file and edited.

use std::process::ExitCode;

use super::print;
use crate::config::DEFAULT;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    print(DEFAULT)
}
