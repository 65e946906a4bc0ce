//! Tests of the built program, one module per feature.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "clippy knows only #[test] functions as tests"
)]

mod api;
mod attacks;
mod away;
mod browser;
mod centrifuge;
mod cli;
mod clocks;
mod closing;
mod compression;
mod config;
mod control;
mod corpus;
mod demo;
mod docs;
mod door;
mod failures;
mod faults;
mod handover;
mod harness;
mod internal;
mod layouts;
mod memory;
mod namespaces;
mod openapi;
mod plain;
mod proxies;
mod rates;
mod records;
mod revoked;
mod scaling;
mod shutdown;
mod slow;
mod survey;
mod tidy;
mod tls;
mod tokens;
