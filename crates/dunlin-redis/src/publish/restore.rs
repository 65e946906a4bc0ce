//! The restoration: what another primary, or this one after a restart, lacks of the tail is put
//! back at its place, before anything new is published. Publications of one channel may be in the
//! tails of several nodes: what comes too early waits in Redis for what is before it. Meanwhile no
//! node publishes what is kept: the first such publication begins a branch, and what is not back by
//! then has no place any more. Then subscribers are told.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::BytesMut;
use dunlin_core::{channel::ChannelName, namespace::Retention, position::Epoch};
use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::{
    tail::{Kept, Tail},
    writer::{write_keeping, write_message},
};
use crate::{
    envelope::Format,
    keys::Keys,
    link::{command, error::tells_half_moved, value::Value},
    metrics::LinkMetrics,
    partition::Partition,
    script::{self, Call, RESTORE},
};

/// Restores on one connection after the other.
pub(super) struct Restorer {
    keys: Keys,
    metrics: LinkMetrics,
    /// The reign of this connection.
    reign: u32,
    /// The last reign that had all that could be had back; 0 = none was met yet.
    restored: u32,
    call: Call,
    /// What is under way; nothing is published meanwhile.
    restoration: Option<Restoration>,
}

struct Restoration {
    lots: Vec<Lot>,
    /// Lots to ask about now.
    due: VecDeque<usize>,
    /// Lots of which others have the next; asked about again at `next_round`.
    waiting: Vec<usize>,
    next_round: Instant,
    in_flight: usize,
    /// When nothing is waited for any more.
    ends_at: Instant,
}

/// What the tail has of a channel and an epoch.
struct Lot {
    channel: ChannelName,
    epoch: Epoch,
    /// Of the newest.
    retention: Retention,
    /// Offsets and numbers in the tail, in order.
    places: Vec<(u64, u64)>,
    /// The offset up to which the server has it, once it has said so.
    top: Option<u64>,
    /// Whether it came further since the call before.
    has_moved: bool,
    /// How many of the places the server was given or does not need, and how many the last call
    /// adds to them.
    given: [usize; 2],
    /// Whether the last call waited for nobody.
    was_last: bool,
}

impl Restorer {
    pub(super) fn new(keys: Keys, metrics: LinkMetrics) -> Self {
        let (reign, restored, call, restoration) = (0, 0, Call::ByText, None);
        Self { keys, metrics, reign, restored, call, restoration }
    }

    /// Starts on a connection.
    pub(super) fn meet(&mut self, reign: u32, tail: &Tail, now: Instant) {
        let ends_at = match &self.restoration {
            Some(restoration) if self.reign == reign => restoration.ends_at,
            _ => now + GRACE,
        };
        (self.reign, self.call) = (reign, Call::ByText);
        if self.restored == 0 {
            // Nothing was published before.
            self.restored = reign;
        }
        let is_other = self.restored != reign && reign != 0;
        self.restoration = is_other.then(|| Restoration::new(tail, ends_at));
    }

    /// Whether what is new may be published.
    pub(super) fn is_over(&self) -> bool {
        self.restoration.is_none()
    }

    /// When there is something to do again without an answer.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let restoration = self.restoration.as_ref()?;
        let is_waiting = !restoration.waiting.is_empty() && restoration.in_flight == 0;
        Some(if is_waiting { restoration.next_round } else { restoration.ends_at })
            .filter(|_| restoration.in_flight == 0)
    }

    /// Writes the next call, if it is time for one, and names the lot it is about.
    pub(super) fn write_next(
        &mut self,
        out: &mut BytesMut,
        tail: &Tail,
        now: Instant,
    ) -> Option<usize> {
        let restoration = self.restoration.as_mut()?;
        let Some(number) = restoration.next(now) else {
            if restoration.is_over(now) {
                (self.restored, self.restoration) = (self.reign, None);
            }
            return None;
        };
        let lot = &mut restoration.lots[number];
        let given = lot.give(tail);
        let waits_for_others = lot.top.is_some() && lot.is_given() && !lot.has_moved;
        lot.was_last = now >= restoration.ends_at && waits_for_others;
        lot.write(out, &self.keys, self.reign, self.call, &given);
        self.call = Call::ByHash;
        Some(number)
    }

    /// Takes the answer to a call.
    pub(super) fn receive(&mut self, number: usize, answer: &Value) {
        let Some(restoration) = &mut self.restoration else { return };
        restoration.in_flight -= 1;
        let lot = &mut restoration.lots[number];
        let (restored, top) = match answer {
            Value::Error(text) if script::tells_unknown(text) => {
                self.call = Call::ByText;
                return restoration.due.push_front(number);
            }
            Value::Array(numbers) => match numbers[..] {
                [Value::Integer(restored)] => (restored, None),
                [Value::Integer(restored), Value::Integer(top)] => (restored, Some(top)),
                _ => (0, None),
            },
            // It has moved with all that there is of it.
            Value::Error(text) if text.starts_with(b"MOVED ") => return,
            Value::Error(text) => {
                // A slot may stay half moved for long, and the rest of the lane does not wait.
                let patience = if tells_half_moved(text) { Duration::ZERO } else { ERROR_PATIENCE };
                let is_over = lot.was_last || Instant::now() >= restoration.ends_at + patience;
                let text = String::from_utf8_lossy(text);
                match is_over {
                    true => {
                        tracing::warn!(channel = %lot.channel, "redis takes nothing back: {text}")
                    }
                    false => restoration.wait(number),
                }
                return;
            }
            _ => (0, None),
        };
        self.metrics.publishes_restored.inc_by(u64::try_from(restored).unwrap_or(0));
        match top.map(u64::try_from) {
            None => {}
            Some(Ok(top)) => {
                lot.note_top(top);
                match lot.is_given() {
                    true => restoration.wait(number),
                    false => restoration.due.push_front(number),
                }
            }
            Some(Err(_)) => {
                self.metrics.channels_lost.inc();
                tracing::warn!(
                    channel = %lot.channel,
                    "redis has lost publications; subscribers are told"
                );
            }
        }
    }
}

impl Restoration {
    fn new(tail: &Tail, ends_at: Instant) -> Self {
        let mut numbers = HashMap::<_, usize, RandomState>::default();
        let mut lots = Vec::new();
        for (number, kept) in tail.iter() {
            let channel = kept.publish.publication.channel();
            let epoch = kept.position.epoch;
            let lot = *numbers.entry((channel, epoch)).or_insert_with(|| {
                lots.push(Lot::new(kept));
                lots.len() - 1
            });
            lots[lot].retention = kept.retention;
            lots[lot].places.push((kept.position.offset, number));
        }
        for lot in &mut lots {
            // One that was repeated is answered later than some behind it.
            lot.places.sort_unstable();
            lot.places.dedup_by_key(|(offset, _)| *offset);
        }
        let due = (0..lots.len()).collect();
        let (waiting, next_round, in_flight) = (Vec::new(), ends_at, 0);
        Self { lots, due, waiting, next_round, in_flight, ends_at }
    }

    fn next(&mut self, now: Instant) -> Option<usize> {
        if now >= self.next_round {
            self.due.extend(self.waiting.drain(..));
        }
        if self.in_flight == CALLS_IN_FLIGHT {
            return None;
        }
        let next = self.due.pop_front()?;
        self.in_flight += 1;
        Some(next)
    }

    fn wait(&mut self, number: usize) {
        if self.waiting.is_empty() {
            self.next_round = Instant::now() + ROUND_PAUSE;
        }
        self.waiting.push(number);
    }

    fn is_over(&self, now: Instant) -> bool {
        let is_idle = self.due.is_empty() && self.waiting.is_empty() && self.in_flight == 0;
        is_idle && now >= self.ends_at
    }
}

impl Lot {
    fn new(first: &Kept) -> Self {
        Self {
            channel: first.publish.publication.channel().clone(),
            epoch: first.position.epoch,
            retention: first.retention,
            places: Vec::new(),
            top: None,
            has_moved: false,
            given: [0, 0],
            was_last: false,
        }
    }

    /// The server has all up to here.
    fn note_top(&mut self, top: u64) {
        self.has_moved = self.top.replace(top) != Some(top);
        let needless = self.places.partition_point(|(offset, _)| *offset <= top);
        self.given = [needless.max(self.given[0] + self.given[1]), 0];
    }

    fn is_given(&self) -> bool {
        self.given[0] + self.given[1] == self.places.len()
    }

    /// What to give in the next call; nothing before the server has said what it has.
    fn give<'a>(&mut self, tail: &'a Tail) -> Vec<&'a Kept> {
        let (mut given, mut bytes) = (Vec::new(), 0);
        self.given[1] = 0;
        if self.top.is_some() {
            for (_, number) in &self.places[self.given[0]..] {
                if given.len() == CALL_PUBLICATIONS || bytes >= CALL_BYTES {
                    break;
                }
                self.given[1] += 1;
                given.extend(tail.get(*number));
                bytes += given.last().map_or(0, |kept| kept.publish.publication.data().len());
            }
        }
        given
    }

    fn write(&self, out: &mut BytesMut, keys: &Keys, reign: u32, call: Call, given: &[&Kept]) {
        RESTORE.by(keys.pub_sub()).write_call(out, call, 4, 11 + 3 * given.len());
        command::write_argument(out, &keys.stream(&self.channel));
        command::write_argument(out, &keys.meta(&self.channel));
        command::write_argument(out, &keys.seed(Partition::of(&self.channel)));
        command::write_argument(out, &[&keys.early(&self.channel)]);
        write_keeping(out, keys, reign, &self.channel, self.retention);
        command::write_argument(out, &[&self.epoch.id.to_be_bytes()]);
        command::write_number(out, self.epoch.branch);
        command::write_number(out, self.places.last().map_or(0, |(offset, _)| *offset));
        command::write_number(out, u64::from(self.was_last));
        for kept in given {
            command::write_number(out, kept.position.offset);
            write_message(out, &kept.publish, Format::Enveloped);
            command::write_argument(out, &[&kept.id.to_be_bytes()]);
        }
    }
}

/// How long nodes hold what is new, after they met the server, for those who meet it later.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// How much longer they hold it for a channel whose calls end in errors.
const ERROR_PATIENCE: Duration = Duration::from_secs(3);
/// How long it is before a server is asked again whether others have given what was missing.
const ROUND_PAUSE: Duration = Duration::from_millis(10);
/// How many calls are on their way at once.
const CALLS_IN_FLIGHT: usize = 64;
/// The bounds of one call.
const CALL_PUBLICATIONS: usize = 32;
const CALL_BYTES: usize = 256 * 1024;
