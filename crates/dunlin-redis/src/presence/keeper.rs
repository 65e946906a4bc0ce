//! The task that tells Redis of a node's members and keeps the node's lease.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::wishes::{Change, Wishes};
use crate::{
    keys::Keys,
    link::{stopped, value::Value},
    read::{Question, Reader},
    script, stream,
};

/// The task's state. [`Keeper::run`] is the task.
pub(super) struct Keeper {
    wishes: Arc<Wishes>,
    reader: Reader,
    keys: Keys,
    lease: Duration,
    node: NodeName,
    /// When to renew the lease at the latest.
    renewal: Instant,
    /// When to tell Redis again of some that it may not know any more.
    again: Instant,
}

/// What Redis knows a node by, until its lease is lost. Then it takes another one: members under
/// the old one that left meanwhile must not come back with it.
struct NodeName {
    text: String,
    calls: u64,
}

impl Keeper {
    pub(super) fn new(wishes: Arc<Wishes>, reader: Reader, keys: Keys, lease: Duration) -> Self {
        let now = Instant::now();
        let node = NodeName::random();
        Self { wishes, reader, keys, lease, node, renewal: now, again: now }
    }

    /// Keeps until told to stop, which leaves the rest to the end of the lease, or to leave.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        loop {
            if let Some(leaving) = self.wishes.take_leaving() {
                if self.leave().await {
                    // Whoever waited may have gone.
                    let _ = leaving.send(());
                }
                return;
            }
            let now = Instant::now();
            let changes = self.wishes.take(now >= self.again);
            if now >= self.again {
                self.again = now + AGAIN_PAUSE;
            }
            if changes.is_empty() && now < self.renewal {
                self.wait().await;
            } else {
                self.tell(changes, now).await;
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) {
        let until = match self.wishes.has_again() {
            true => self.again.min(self.renewal),
            false => self.renewal,
        };
        tokio::select! {
            () = self.wishes.filled() => {}
            () = self.reader.returned() => self.renewal = Instant::now(),
            () = sleep_until(until) => {}
        }
    }

    async fn tell(&mut self, changes: Vec<Change>, now: Instant) {
        let question = self.question(&changes);
        match self.reader.ask(question).await {
            Ok(Value::Integer(1)) => {
                self.wishes.note_told(changes);
                if now >= self.renewal {
                    self.sweep().await;
                }
                self.renewal = now + self.lease.mul_f64(RENEWALS);
            }
            Ok(Value::Integer(0)) => {
                tracing::warn!("redis has lost this node's members, they are added again");
                self.node = NodeName::random();
                self.wishes.note_forgotten(changes);
            }
            _ => {
                self.wishes.note_untold(changes);
                let now = Instant::now();
                (self.renewal, self.again) = (now + AWAY_PAUSE, now + AWAY_PAUSE);
            }
        }
    }

    fn question(&mut self, changes: &[Change]) -> Question {
        let is_first = self.node.calls == 0;
        self.node.calls += 1;
        let mut question = Question::script(&script::PRESENCE_KEEP, [self.keys.nodes()]);
        question.push_bytes(self.keys.start());
        question.push_bytes(self.node.text.as_bytes());
        question.push_number(stream::milliseconds(self.lease));
        question.push_number(self.node.calls);
        question.push_number(u64::from(is_first));
        for change in changes {
            question.push_bytes(change.channel.as_str().as_bytes());
            question.push_bytes(change.client.as_bytes());
            question.push_bytes(&change.info);
        }
        question
    }

    /// Removes members of nodes that died.
    async fn sweep(&self) {
        for _ in 0..SWEEPS {
            if self.ask_to_sweep("").await != Some(1) {
                return;
            }
        }
    }

    /// Removes the members of this node. False if the end of its lease has to do it.
    async fn leave(&self) -> bool {
        loop {
            match self.ask_to_sweep(&self.node.text).await {
                Some(0) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    async fn ask_to_sweep(&self, node: &str) -> Option<i64> {
        let mut question = Question::script(&script::PRESENCE_SWEEP, [self.keys.nodes()]);
        question.push_bytes(self.keys.start());
        question.push_number(CHANNELS_PER_SWEEP);
        question.push_bytes(node.as_bytes());
        match self.reader.ask(question).await {
            Ok(Value::Integer(more)) => Some(more),
            _ => None,
        }
    }
}

/// However the task ends, nobody waits for it in vain.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.wishes.close();
    }
}

impl NodeName {
    /// The standard library seeds every hash state anew.
    fn random() -> Self {
        let text = format!("{:016x}", RandomState::new().hash_one(0_u8));
        Self { text, calls: 0 }
    }
}

/// After which part of its lease a node renews it: if one renewal fails the next is still in time.
const RENEWALS: f64 = 0.4;
/// How long to wait before telling Redis again what it may not know: 25,000 members a second and
/// node, so that a server that lost its data gets them in pieces.
const AGAIN_PAUSE: Duration = Duration::from_millis(10);
/// How long to wait for a server that is away before it is tried again.
const AWAY_PAUSE: Duration = Duration::from_millis(200);
/// How much a node removes of nodes that died, at each renewal.
const SWEEPS: usize = 20;
const CHANNELS_PER_SWEEP: u64 = 100;
