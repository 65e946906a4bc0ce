//! The tail: the last publications of a lane that are kept and were acknowledged. Redis replicates
//! and saves a little later than it answers, so the next primary may lack just these.

use std::{collections::VecDeque, time::Duration};

use dunlin_core::{broker::Publish, namespace::Retention, position::Position};
use tokio::time::Instant;

use crate::queue::MessageId;

/// See the module's text. What is in it has a number, which counts all that ever was.
#[derive(Default)]
pub(super) struct Tail {
    kept: VecDeque<Kept>,
    /// The number of the oldest.
    first: u64,
    bytes: usize,
}

/// A publication and where it was.
pub(super) struct Kept {
    pub(super) publish: Publish,
    pub(super) retention: Retention,
    pub(super) id: MessageId,
    pub(super) position: Position,
    since: Instant,
}

impl Kept {
    fn bytes(&self) -> usize {
        let publication = &self.publish.publication;
        publication.data().len() + publication.channel().as_str().len() + OVERHEAD_BYTES
    }
}

impl Tail {
    /// Appends what was acknowledged to be at `position`.
    pub(super) fn push(
        &mut self,
        publish: Publish,
        id: MessageId,
        position: Position,
        since: Instant,
    ) {
        let Some(retention) = publish.retention else { return };
        let kept = Kept { publish, retention, id, position, since };
        self.bytes += kept.bytes();
        self.kept.push_back(kept);
        while self.bytes > BYTES_MAX {
            self.drop_oldest();
        }
    }

    /// Lets go of what the replicas and the disk of a server have by now that was there all the
    /// time.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|oldest| now - oldest.since >= AGE_MAX) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            self.bytes -= oldest.bytes();
            self.first += 1;
        }
    }

    /// The one with this number, if it is still there.
    pub(super) fn get(&self, number: u64) -> Option<&Kept> {
        self.kept.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// All, oldest first, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Kept)> {
        (self.first..).zip(&self.kept)
    }
}

/// How long a publication stays, as long as the server does.
const AGE_MAX: Duration = Duration::from_secs(10);
/// How much stays at most.
const BYTES_MAX: usize = 8 << 20;
/// What a publication takes beside its payload and the name of its channel.
const OVERHEAD_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use dunlin_core::{
        channel::ChannelName,
        position::Epoch,
        publication::{Kind, Publication},
    };

    use super::*;

    fn push(tail: &mut Tail, offset: u64, bytes: usize) {
        let data = vec![b'x'; bytes].into();
        let publication = Publication::new(ChannelName::new("c").unwrap(), Kind::Binary, data);
        let ttl = Duration::from_secs(60);
        let retention = Some(Retention { size: 10, ttl, meta_ttl: ttl });
        let publish = Publish { publication, retention, terms: None };
        let position = Position { offset, epoch: Epoch { id: 1, branch: 1 } };
        tail.push(publish, offset.into(), position, Instant::now());
    }

    fn offsets(tail: &Tail) -> Vec<u64> {
        tail.iter().map(|(_, kept)| kept.position.offset).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_goes_and_what_is_left_keeps_its_number() {
        let mut tail = Tail::default();
        push(&mut tail, 1, 0);
        tokio::time::advance(AGE_MAX / 2).await;
        push(&mut tail, 2, 0);
        tokio::time::advance(AGE_MAX / 2).await;
        tail.expire(Instant::now());
        assert_eq!(offsets(&tail), [2]);
        assert!(tail.get(0).is_none());
        assert_eq!(tail.get(1).unwrap().position.offset, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_go_when_there_are_too_many_bytes() {
        let mut tail = Tail::default();
        (1..=10).for_each(|offset| push(&mut tail, offset, 1 << 20));
        assert_eq!(offsets(&tail), [4, 5, 6, 7, 8, 9, 10]);
        push(&mut tail, 11, 2 * BYTES_MAX);
        assert_eq!(offsets(&tail), [] as [u64; 0], "and nothing behind a hole stays");
        assert_eq!(tail.bytes, 0);
    }
}
