//! Tests of the built program, one module per feature.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "clippy knows only #[test] functions as tests"
)]

mod api;
mod attacks;
mod browser;
mod centrifuge;
mod cli;
mod closing;
mod compression;
mod config;
mod control;
mod demo;
mod docs;
mod faults;
mod harness;
mod internal;
mod namespaces;
mod openapi;
mod plain;
mod scaling;
mod shutdown;
mod slow;
mod tidy;
mod tls;
mod tokens;
