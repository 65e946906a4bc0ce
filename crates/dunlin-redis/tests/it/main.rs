//! The broker against real Redis servers, whole and broken.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod faults;
mod history;
mod messages;
mod node;
mod presence;
mod proxy;
mod server;
mod start;
