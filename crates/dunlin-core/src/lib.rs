//! The domain of Dunlin: what a channel, a publication, a subscription and a node are, and the
//! machines over them.
//!
//! ```text
//!  connection ── publish ──▶ Node ──▶ Broker (memory | Redis)
//!                                        │ publications, in channel order
//!  connection ◀── Hub ◀── Inbox ◀── Interest (which shards want the channel)
//! ```
//!
//! Publications go down on the left and come up on the right, also when publisher and subscriber
//! share a shard: there is one path and therefore one order. Nothing here opens a socket, reads a
//! clock or knows a wire format.
//!
//! Modules are ranked; each uses only those above it.

pub mod ids;

pub mod json;

pub mod limits;

pub mod channel;

pub mod namespace;

pub mod position;

pub mod publication;

pub mod filter;

pub mod error;

pub mod command;

pub mod rights;

pub mod metrics;

pub mod auth;

pub mod control;

pub mod history;

pub mod stream;

pub mod inbox;

pub mod interest;

pub mod broker;

pub mod presence;

pub mod event;

pub mod hub;

pub mod node;

pub mod session;
