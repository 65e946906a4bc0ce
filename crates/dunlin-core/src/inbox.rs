//! A shard's inbox: what other threads hand to it, taken out all at once in one turn.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    channel::ChannelName,
    error::{Disconnect, PublishError, PublishOutcome},
    ids::ConnectionId,
    limits::Limits,
    publication::Publication,
    stream::{Snapshot, Turn},
};

/// One thing a shard is told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Deliver this to its channel's subscribers.
    Publication(Arc<Publication>),
    /// A subscriber begins here: it gets what comes behind this.
    Joined(Box<Joined>),
    /// Positions in this channel count no more.
    Turned(ChannelName, Turn),
    /// A publish of this connection did not happen, or may not have.
    PublishFailed(ConnectionId, PublishError),
    /// How the publish command of this connection with this number ended.
    PublishAnswered(ConnectionId, u32, PublishOutcome),
    /// End this connection with this close frame, once it has what was published before.
    End(ConnectionId, Disconnect, Bytes),
}

/// A subscriber at its place in the channel's order.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Whose subscription it is.
    pub connection: ConnectionId,
    /// To what.
    pub channel: ChannelName,
    /// The node's number for the channel.
    pub number: u32,
    /// Where it begins, and with what.
    pub snapshot: Snapshot,
}

/// How often a shard may be found to take nothing out of a full inbox, looked at once a second,
/// before everybody else goes on without it.
const STALLS_MAX: u32 = 2;

/// The queue in front of a shard. Pushing never fails and never waits; who pushes awaits
/// [`Inbox::room`] first, so the queue exceeds its marks by at most one batch per giver. A shard
/// that takes nothing for too long is not waited for: the subscribers of what finds no room are
/// told.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<Queue>,
    /// Whether the queue is over a mark; kept beside it, to be asked before every read.
    is_full: AtomicBool,
    filled: Notify,
    drained: Notify,
    publications_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    notices: Vec<Notice>,
    bytes: usize,
    /// How often the shard was found not to have taken anything out of a full queue.
    stalls: u32,
    /// The channels that were told of publications for which there was no room; none while givers
    /// wait for room instead.
    overrun: Option<HashSet<ChannelName>>,
}

impl Inbox {
    /// An empty inbox with the marks of `limits`.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            queue: Mutex::default(),
            is_full: AtomicBool::new(false),
            filled: Notify::new(),
            drained: Notify::new(),
            publications_max: limits.inbox_publications,
            bytes_max: limits.inbox_bytes,
        }
    }

    /// Appends a batch in order and wakes the shard when it had nothing to do.
    pub fn push(&self, batch: &[Arc<Publication>]) {
        let bytes = batch.iter().map(|publication| publication.data().len()).sum();
        self.append(batch.iter().cloned().map(Notice::Publication), bytes);
    }

    /// Looks whether the shard takes what it is given. Called about once a second.
    pub fn look_after(&self) {
        let mut queue = self.queue.lock();
        if queue.overrun.is_some() || !self.is_full.load(Ordering::Acquire) {
            return;
        }
        queue.stalls += 1;
        if queue.stalls > STALLS_MAX {
            queue.overrun = Some(HashSet::new());
            self.is_full.store(false, Ordering::Release);
            drop(queue);
            self.drained.notify_waiters();
        }
    }

    /// Tells the shard that a subscriber begins here.
    pub fn push_joined(&self, joined: Joined) {
        self.append([Notice::Joined(Box::new(joined))], 0);
    }

    /// Tells the shard that positions in `channel` count no more.
    pub fn push_turn(&self, channel: &ChannelName, turn: Turn) {
        self.append([Notice::Turned(channel.clone(), turn)], 0);
    }

    /// Tells the shard that a publish of one of its connections failed.
    pub fn push_failure(&self, connection: ConnectionId, error: PublishError) {
        self.append([Notice::PublishFailed(connection, error)], 0);
    }

    /// Tells the shard how the publish command `id` of one of its connections ended.
    pub fn push_answer(&self, connection: ConnectionId, id: u32, outcome: PublishOutcome) {
        self.append([Notice::PublishAnswered(connection, id, outcome)], 0);
    }

    /// Tells the shard to end one of its connections after everything that is in the inbox now.
    pub fn push_end(&self, connection: ConnectionId, why: Disconnect, close_frame: Bytes) {
        self.append([Notice::End(connection, why, close_frame)], 0);
    }

    fn append(&self, notices: impl IntoIterator<Item = Notice>, bytes: usize) {
        let was_empty = {
            let mut queue = self.queue.lock();
            if queue.overrun.is_some() {
                return queue.overrun_by(notices);
            }
            let was_empty = queue.notices.is_empty();
            queue.notices.extend(notices);
            queue.bytes += bytes;
            if queue.notices.len() >= self.publications_max || queue.bytes >= self.bytes_max {
                self.is_full.store(true, Ordering::Release);
            }
            was_empty
        };
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Waits until there is something to take. For the owning shard only. Cancel-safe.
    pub async fn filled(&self) {
        while self.queue.lock().notices.is_empty() {
            self.filled.notified().await;
        }
    }

    /// Moves everything into `turn`, which must be empty; its buffer becomes the next queue, so
    /// nothing is allocated.
    pub fn take(&self, turn: &mut Vec<Notice>) {
        debug_assert!(turn.is_empty(), "a turn ends before the next is taken");
        let was_full = {
            let mut queue = self.queue.lock();
            mem::swap(&mut queue.notices, turn);
            queue.bytes = 0;
            (queue.stalls, queue.overrun) = (0, None);
            self.is_full.swap(false, Ordering::AcqRel)
        };
        if was_full {
            self.drained.notify_waiters();
        }
    }

    /// Whether more may be pushed now.
    pub fn has_room(&self) -> bool {
        !self.is_full.load(Ordering::Acquire)
    }

    /// Waits until more may be pushed. Cancel-safe.
    pub async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if self.has_room() {
                return;
            }
            drained.await;
        }
    }
}

impl Queue {
    /// Takes what can be told nowhere else; of publications only that they were lost at this place.
    fn overrun_by(&mut self, notices: impl IntoIterator<Item = Notice>) {
        let told = self.overrun.get_or_insert_default();
        for notice in notices {
            let Notice::Publication(publication) = notice else {
                if let Notice::Joined(joined) = &notice {
                    // Who begins here was told of nothing before.
                    told.remove(&joined.channel);
                }
                self.notices.push(notice);
                continue;
            };
            if told.insert(publication.channel().clone()) {
                let turn = match publication.position() {
                    Some(_) => Turn::Lost,
                    None => Turn::Dropped,
                };
                self.notices.push(Notice::Turned(publication.channel().clone(), turn));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use tokio::task::yield_now;

    use super::*;
    use crate::{
        ids::ShardId,
        limits::tests::small,
        position::{Epoch, Position},
        publication::Kind,
    };

    fn publication(text: &'static str) -> Arc<Publication> {
        let channel = ChannelName::new("c").unwrap();
        Arc::new(Publication::new(channel, Kind::Text, Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn a_full_inbox_makes_the_giver_wait_and_loses_nothing() {
        let inbox = Arc::new(Inbox::new(&Limits { inbox_publications: 2, ..small() }));
        inbox.push(&[publication("1"), publication("2"), publication("3")]);
        assert!(!inbox.has_room());

        let giver = tokio::spawn({
            let inbox = Arc::clone(&inbox);
            async move {
                inbox.room().await;
                inbox.push(&[publication("4")]);
            }
        });
        yield_now().await;
        assert!(!giver.is_finished());

        inbox.filled().await;
        let mut turn = Vec::new();
        inbox.take(&mut turn);
        assert_eq!(turn.len(), 3);
        giver.await.unwrap();
        turn.clear();
        inbox.take(&mut turn);
        let [Notice::Publication(last)] = &turn[..] else { panic!("{turn:?}") };
        assert_eq!(last.data(), b"4");
    }

    #[tokio::test]
    async fn a_shard_that_takes_nothing_is_told_what_it_lost_and_holds_nobody_up() {
        let inbox = Inbox::new(&Limits { inbox_publications: 2, ..small() });
        inbox.push(&[publication("1"), publication("2")]);
        for _ in 0..STALLS_MAX {
            inbox.look_after();
            assert!(!inbox.has_room());
        }
        inbox.look_after();
        inbox.room().await;
        let epoch = Epoch { id: 7, branch: 0 };
        let placed = |offset| {
            let channel = ChannelName::new("kept").unwrap();
            let publication = Publication::new(channel, Kind::Text, Bytes::new());
            Arc::new(publication.at(Position { offset, epoch }))
        };
        let lose = |offsets: Range<u64>| {
            for offset in offsets {
                inbox.push(&[publication("lost")]);
                inbox.push(&[placed(offset)]);
            }
        };
        lose(1..500);
        inbox.push_joined(Joined {
            connection: ConnectionId { shard: ShardId::new(0), slot: 0, generation: 0 },
            channel: ChannelName::new("kept").unwrap(),
            number: 0,
            snapshot: Snapshot::default(),
        });
        lose(500..1000);
        let mut turn = Vec::new();
        inbox.take(&mut turn);
        let [Notice::Publication(_), Notice::Publication(_), rest @ ..] = &turn[..] else {
            panic!("{turn:?}")
        };
        let [
            Notice::Turned(left, Turn::Dropped),
            Notice::Turned(right, Turn::Lost),
            Notice::Joined(_),
            Notice::Turned(again, Turn::Lost),
        ] = rest
        else {
            panic!("{rest:?}")
        };
        let names = [left, right, again].map(ChannelName::as_str);
        assert_eq!(names, ["c", "kept", "kept"], "who joined late is told, too");
        // It took what it was given: all is as before.
        turn.clear();
        inbox.push(&[placed(1000)]);
        inbox.take(&mut turn);
        assert!(matches!(&turn[..], [Notice::Publication(_)]), "{turn:?}");
    }

    #[tokio::test]
    async fn bytes_fill_an_inbox_too() {
        let inbox = Inbox::new(&Limits { inbox_bytes: 5, ..small() });
        inbox.push(&[publication("1234")]);
        assert!(inbox.has_room());
        inbox.push(&[publication("5")]);
        assert!(!inbox.has_room());
    }
}
