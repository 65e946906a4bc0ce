//! The task that tells Redis of a node's members and keeps the node's leases: one in each partition
//! where it has members, and one call at a time in each.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dunlin_core::error::BrokerLost;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    sweeper::Sweeper,
    wishes::{Change, Wishes},
};
use crate::{
    keys::Keys,
    lanes::Readers,
    link::{stopped, value::Value},
    partition::Partition,
    read::Question,
    script, stream,
};

/// The task's state. [`Keeper::run`] is the task.
pub(super) struct Keeper {
    wishes: Arc<Wishes>,
    readers: Readers,
    keys: Keys,
    lease: Duration,
    leases: HashMap<Partition, Lease>,
    calls: JoinSet<Call>,
    /// When to tell Redis again of some that it may not know any more.
    again: Instant,
    /// When the operator was last told that members are added again.
    told_at: Option<Instant>,
}

/// A node's lease in a partition.
struct Lease {
    /// What Redis knows the node by there.
    node: String,
    calls: u64,
    /// Whether the node was away for longer than its lease: then members that others removed are
    /// announced as they are added again, for it was announced that they left.
    is_returning: bool,
    /// When to renew it at the latest.
    renewal: Instant,
    /// Whether a call is on its way.
    is_busy: bool,
}

/// A call that has ended.
struct Call {
    partition: Partition,
    changes: Vec<Change>,
    started_at: Instant,
    answer: Result<Value, BrokerLost>,
}

impl Keeper {
    pub(super) fn new(wishes: Arc<Wishes>, readers: Readers, keys: Keys, lease: Duration) -> Self {
        let (leases, calls) = (HashMap::new(), JoinSet::new());
        Self { wishes, readers, keys, lease, leases, calls, again: Instant::now(), told_at: None }
    }

    /// Keeps until told to stop, which leaves the rest to the end of the leases, or to leave.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = stopped(&mut stop) => {}
            leaving = self.keep() => self.leave(leaving).await,
        }
    }

    /// Returns who waits for the node to leave.
    async fn keep(&mut self) -> oneshot::Sender<()> {
        loop {
            if let Some(leaving) = self.wishes.take_leaving() {
                return leaving;
            }
            self.start_calls();
            let wake = self.wake();
            tokio::select! {
                () = self.wishes.filled() => {}
                Some(call) = self.calls.join_next() => self.note_ended(call.ok()),
                () = self.readers.returned() => self.renew_all(),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Tells what there is to tell, in as many partitions side by side as may be.
    fn start_calls(&mut self) {
        let now = Instant::now();
        while self.calls.len() < CALLS_MAX {
            let is_idle = |partition| self.leases.get(&partition).is_none_or(|it| !it.is_busy);
            let is_time_for_again = now >= self.again;
            let next = self.wishes.take(is_idle, is_time_for_again);
            if is_time_for_again && next.is_some() {
                self.again = now + AGAIN_PAUSE;
            }
            let is_due = |lease: &Lease| !lease.is_busy && lease.renewal <= now;
            let due = || self.leases.iter().find(|(_, lease)| is_due(lease));
            let next = next.or_else(|| due().map(|(partition, _)| (*partition, Vec::new())));
            let Some((partition, changes)) = next else { return };
            self.start_call(partition, changes, now);
        }
    }

    fn start_call(&mut self, partition: Partition, changes: Vec<Change>, now: Instant) {
        let lease = self.leases.entry(partition).or_insert_with(|| Lease::new(now));
        lease.is_busy = true;
        let mode = match lease {
            Lease { calls: 0, .. } => "first",
            Lease { is_returning: true, .. } => "return",
            Lease { .. } => "keep",
        };
        lease.calls += 1;
        let script = script::PRESENCE_KEEP.by(self.keys.pub_sub());
        let keys = [self.keys.nodes(partition), self.keys.never(partition)];
        let mut question = Question::script(script, keys);
        question.push_bytes(&self.keys.start(partition));
        question.push_bytes(lease.node.as_bytes());
        question.push_number(stream::milliseconds(self.lease));
        question.push_number(lease.calls);
        question.push_bytes(mode.as_bytes());
        question.push_bytes(&self.keys.channel_prefix(partition));
        for change in &changes {
            question.push_bytes(change.channel.as_str().as_bytes());
            question.push_bytes(change.client.as_bytes());
            question.push_bytes(&change.info);
            question.push_number(u64::from(change.is_again()));
        }
        let readers = self.readers.clone();
        self.calls.spawn(async move {
            let answer = readers.ask(partition, question).await;
            Call { partition, changes, started_at: now, answer }
        });
    }

    fn note_ended(&mut self, call: Option<Call>) {
        // A call panics by a bug of ours only, and the partition would wait for it for ever.
        let Call { partition, changes, started_at, answer } = call.expect("asking does not panic");
        let Some(lease) = self.leases.get_mut(&partition) else { return };
        lease.is_busy = false;
        match answer {
            Ok(Value::Integer(1)) => {
                lease.renewal = started_at + self.lease.mul_f64(RENEWALS);
                lease.is_returning &= self.wishes.has_again_in(partition);
                self.wishes.note_told(changes);
            }
            Ok(Value::Integer(2)) => {
                self.leases.remove(&partition);
                self.wishes.note_told(changes);
            }
            Ok(Value::Integer(over @ (0 | 3))) => {
                if over == 3 {
                    (lease.is_returning, lease.renewal) = (true, Instant::now());
                } else {
                    self.leases.remove(&partition);
                }
                self.wishes.note_forgotten(partition, changes);
                self.tell_that_members_were_lost();
            }
            _ => {
                let now = Instant::now();
                lease.renewal = now + AWAY_PAUSE;
                self.again = now + AWAY_PAUSE;
                self.wishes.note_untold(partition, changes);
            }
        }
    }

    fn tell_that_members_were_lost(&mut self) {
        let now = Instant::now();
        if self.told_at.is_none_or(|told_at| now - told_at >= TELL_EVERY) {
            self.told_at = Some(now);
            tracing::warn!("redis has lost members of this node, they are added again");
        }
    }

    /// The link was made anew: whether the leases still stand is to be known at once.
    fn renew_all(&mut self) {
        let now = Instant::now();
        self.leases.values_mut().for_each(|lease| lease.renewal = now);
    }

    /// When there is something to do.
    fn wake(&self) -> Instant {
        let idle = self.leases.values().filter(|lease| !lease.is_busy);
        let renewal = idle.map(|lease| lease.renewal).min();
        let again = self.wishes.has_again().then_some(self.again);
        let wake = renewal.into_iter().chain(again).min();
        wake.unwrap_or_else(|| Instant::now() + self.lease)
    }

    /// Removes the members of this node; if that fails, the end of the leases does it.
    async fn leave(mut self, leaving: oneshot::Sender<()>) {
        // What is on its way must not come behind.
        while let Some(call) = self.calls.join_next().await {
            self.note_ended(call.ok());
        }
        let sweeper = Sweeper::new(self.readers.clone(), self.keys.clone(), self.lease);
        for (partition, lease) in &self.leases {
            if sweeper.sweep(*partition, &lease.node).await.is_err() {
                return;
            }
        }
        // Whoever waited may have gone.
        let _ = leaving.send(());
    }
}

/// However the task ends, nobody waits for it in vain.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.wishes.close();
    }
}

impl Lease {
    fn new(now: Instant) -> Self {
        let node = format!("{:016x}", crate::random());
        Self { node, calls: 0, is_returning: false, renewal: now, is_busy: false }
    }
}

/// After which part of its lease a node renews it: if one renewal fails the next is still in time.
pub(super) const RENEWALS: f64 = 0.4;
/// Calls on their way, each of another partition.
const CALLS_MAX: usize = 32;
/// How long to wait before telling Redis again what it may not know: 25,000 members a second and
/// node, so that a server that lost its data gets them in pieces.
const AGAIN_PAUSE: Duration = Duration::from_millis(10);
/// How long to wait for a server that is away before it is tried again.
const AWAY_PAUSE: Duration = Duration::from_millis(200);
/// How often the operator is told that members were lost.
const TELL_EVERY: Duration = Duration::from_secs(60);
