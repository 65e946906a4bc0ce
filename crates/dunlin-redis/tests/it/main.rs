//! The broker against real Redis servers, whole and broken.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod abilities;
mod cluster;
mod cluster_lanes;
mod cluster_moves;
mod cluster_start;
mod clustered;
mod company;
mod facts;
mod failover;
mod faults;
mod heals;
mod history;
mod instance;
mod lanes;
mod load;
mod messages;
mod node;
mod presence;
mod proxy;
mod resp;
mod rights;
mod sentinels;
mod server;
mod sharded;
mod start;
mod tail;
mod tls;
mod truth;
