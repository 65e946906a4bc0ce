//! The server: configuration, command line, front, shards, signals. `main.rs` only calls
//! [`main`]; it is a library so that its decoders can be fuzzed and its parts tested.

pub mod config;

pub mod jwks;

pub mod api;

pub mod front;

mod app;
mod bounds;
mod broker;
mod cli;
mod clock;
mod control;
mod shard;

mod connection;
mod metering;
mod reader;
mod session;

mod backlog;
mod memory;
mod stream;

mod logging;
mod nofile;
mod shutdown;

pub use cli::main;
