//! Dunlin's broker over Redis Pub/Sub, with its own RESP3 link.
//!
//! ```text
//!  Broker::publish ──▶ Queue ──▶ publish link ════▶ Redis
//!  Broker::subscribe ─▶ Orders ─▶ subscribe link ══▶   │
//!  Interest::deliver ◀─────────── subscribe link ◀═════╛
//! ```
//!
//! Each link is one TCP connection and one task. Neither retries a publish that may have happened,
//! neither ever delivers anything that Redis did not send.

pub mod url;

pub mod broker;

pub mod metrics;

pub mod queue;

mod publish;

mod subscribe;

mod channels;

pub mod envelope;

pub mod keys;

pub mod link;
