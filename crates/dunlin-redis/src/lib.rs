//! Dunlin's broker over Redis Pub/Sub, with its own RESP3 link.
//!
//! ```text
//!  Broker::publish ──▶ Queue ──▶ publish link ════▶ Redis
//!  Broker::subscribe ─▶ Orders ─▶ subscribe link ══▶   │
//!  Interest::deliver ◀─────────── subscribe link ◀═════╡
//!  Broker::history, recover ◀──▶ read link ◀══════════▶╡
//!  PresenceStore ──────────────▶ read link ◀══════════▶╛
//! ```
//!
//! Each link is one TCP connection and one task. None repeats a publish that may have happened and
//! of which Redis cannot tell, none ever delivers anything that Redis did not send.

pub mod url;

pub mod broker;

pub mod presence;

pub mod metrics;

pub mod queue;

mod publish;

mod subscribe;

mod read;

mod stream;

mod script;

mod channels;

pub mod envelope;

pub mod keys;

pub mod link;
