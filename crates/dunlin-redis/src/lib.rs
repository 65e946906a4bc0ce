//! Dunlin's broker over Redis Pub/Sub, with its own RESP3 link.
//!
//! ```text
//!  channel ─▶ partition ─▶ lane ══▶ its primary
//!                          lane ══▶ its primary
//! ```
//!
//! A lane is one Redis primary with all that belongs to it, wherever that is at the moment
//! (`link::place`, `sentinel`). Which lane a channel is in, all nodes agree on: of a list of
//! servers it follows from their number (`shares`), a cluster tells it (`cluster`) and may
//! change it (`lanes`). `lane` tells the rest of the story.

pub mod url;

pub mod broker;

pub mod presence;

pub mod metrics;

pub mod queue;

mod lane;

mod lanes;

mod shares;

mod sentinel;

mod cluster;

mod publish;

mod subscribe;

mod read;

mod stream;

mod script;

mod tasks;

mod news;

mod channels;

pub mod envelope;

pub mod partition;

pub mod keys;

pub mod link;

/// Any number. The standard library seeds every hash state anew.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};

    RandomState::new().hash_one(0_u8)
}
