//! A lane: one Redis primary with all that belongs to it. What happens to it happens to the
//! channels of its partitions, and to no others.
//!
//! ```text
//!  publish ────▶ Queue ──▶ publish link ════▶ primary     proves itself: Health
//!  subscribe ──▶ Orders ─▶ subscribe link ══▶   │
//!  Interest::deliver ◀──── subscribe link ◀═════╡
//!  history, presence ◀──▶ read link ◀══════════▶╛
//! ```
//!
//! Each link is one TCP connection at a time and one task; of subscribe links there are more if
//! there are very many channels. None repeats a publish that may have happened and of which Redis
//! cannot tell, none ever delivers anything that Redis did not send.

pub(crate) mod company;

pub(crate) mod founder;

pub(crate) mod health;

pub(crate) mod line;

pub(crate) mod probe_channel;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use self::health::Health;
use crate::{link::stopped, queue::Queue, read::Reader, shares::Share, subscribe::SubscribeLinks};

/// See the module's text.
pub(crate) struct Lane {
    pub(crate) share: Share,
    pub(crate) links: Arc<SubscribeLinks>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) reader: Reader,
    pub(crate) health: Arc<Health>,
}

impl Lane {
    /// Waits until the lane is ready. Cancel-safe.
    pub(crate) async fn ready(&self) {
        // The sender is in our hands, so there is no error.
        let _ = self.health.watch().wait_for(Option::is_none).await;
    }
}

/// Looks whether what should have come has come, also while no link does anything, and whether
/// there are enough links.
async fn review(health: Arc<Health>, links: Arc<SubscribeLinks>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(REVIEW_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticks.tick() => {
                health.review();
                links.grow();
            }
        }
    }
}

/// How often a lane's health is looked at.
const REVIEW_INTERVAL: Duration = Duration::from_millis(100);
