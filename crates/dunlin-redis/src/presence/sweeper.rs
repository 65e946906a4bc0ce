//! The task that removes the members of nodes that died, one partition after the other: there may
//! be nobody else in one. Whoever removes them has Redis announce in the same step that they left.

use std::time::Duration;

use dunlin_core::error::BrokerLost;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use super::keeper::RENEWALS;
use crate::{
    keys::Keys,
    lanes::Readers,
    link::{stopped, value::Value},
    partition::Partition,
    read::Question,
    script,
};

/// The task's state. [`Sweeper::run`] is the task.
pub(super) struct Sweeper {
    readers: Readers,
    keys: Keys,
    lease: Duration,
}

impl Sweeper {
    pub(super) fn new(readers: Readers, keys: Keys, lease: Duration) -> Self {
        Self { readers, keys, lease }
    }

    /// Sweeps all partitions again and again, as often as leases are renewed, until told to stop.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut turns = interval(self.lease.mul_f64(RENEWALS / Partition::COUNT as f64));
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut readers = self.readers.clone();
        let sweep_all = async {
            for partition in (0..).flat_map(|_| Partition::all()) {
                tokio::select! {
                    // Others were cut off, too, and have to renew their leases first.
                    () = readers.returned() => sleep(self.lease.mul_f64(RENEWALS)).await,
                    _ = turns.tick() => {}
                }
                // A server that is away is swept when its partition's turn comes again.
                let _ = self.sweep(partition, "").await;
            }
        };
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = sweep_all => {}
        }
    }

    /// Removes all members of a node in a partition; without a name, of all nodes that died.
    pub(super) async fn sweep(&self, partition: Partition, node: &str) -> Result<(), BrokerLost> {
        loop {
            let script = script::PRESENCE_SWEEP.by(self.keys.pub_sub());
            let keys = [self.keys.nodes(partition), self.keys.never(partition)];
            let mut question = Question::script(script, keys);
            question.push_bytes(&self.keys.start(partition));
            question.push_number(MEMBERS_PER_CALL);
            question.push_bytes(&self.keys.channel_prefix(partition));
            question.push_bytes(node.as_bytes());
            match self.readers.ask(partition, question).await? {
                Value::Integer(0) => return Ok(()),
                Value::Integer(_) => {}
                _ => return Err(BrokerLost),
            }
        }
    }
}

/// Members that are removed at once, so that other clients of the server do not wait for it.
const MEMBERS_PER_CALL: u64 = 256;
