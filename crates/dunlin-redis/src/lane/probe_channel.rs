//! The Redis channel on which a lane's probes come back. Nobody else listens there.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use crate::{
    keys::{Keys, PubSub},
    partition::Partition,
    shares::Share,
};

/// See the module's text. It lies in a partition of the lane: in a cluster nothing is published
/// elsewhere. Clones go together.
#[derive(Clone)]
pub(crate) struct ProbeChannel {
    keys: Keys,
    share: Share,
    id: String,
    partition: Partition,
    name: Bytes,
    /// The place of the partition that it left last because it was half moved.
    avoided: Arc<AtomicUsize>,
}

impl ProbeChannel {
    pub(crate) fn new(keys: Keys, share: Share) -> Self {
        let id = format!("{:016x}", crate::random());
        let partition = share.first().unwrap_or(Partition::FIRST);
        let name = keys.probe_channel(partition, &id);
        Self { keys, share, id, partition, name, avoided: Arc::new(Partition::COUNT.into()) }
    }

    /// The partition does not prove anything now, for its slot is half moved: another one is to do
    /// it. Whoever has a clone must `follow`.
    pub(crate) fn avoid(&self) {
        self.avoided.store(self.partition.place(), Ordering::Release);
    }

    /// Goes where the lane is. Returns the name that it had if that is another one.
    pub(crate) fn follow(&mut self) -> Option<Bytes> {
        let avoided = self.avoided.load(Ordering::Acquire);
        let is_here = |it: &Partition| self.share.has_partition(*it) && it.place() != avoided;
        let best = Partition::all().find(is_here).or_else(|| self.share.first());
        let partition = best.filter(|best| *best != self.partition)?;
        self.partition = partition;
        Some(std::mem::replace(&mut self.name, self.keys.probe_channel(partition, &self.id)))
    }

    /// Whether the lane has anything to prove.
    pub(crate) fn is_of_use(&self) -> bool {
        self.share.first().is_some()
    }

    /// Which probes these are, of all nodes'.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// As Redis knows it.
    pub(crate) fn name(&self) -> &Bytes {
        &self.name
    }

    /// As [`Keys::group`].
    pub(crate) fn group(&self) -> Partition {
        match self.keys.pub_sub() {
            PubSub::Classic => Partition::FIRST,
            PubSub::Sharded => self.partition,
        }
    }

    /// The key that its probes write.
    pub(crate) fn key(&self) -> Bytes {
        self.keys.probe(self.partition, &self.id)
    }

    /// The key where lists of servers meet: the same whatever the list is. A cluster is no list,
    /// and there a script may go only where its partition is.
    pub(crate) fn place_key(&self) -> Bytes {
        self.keys.place(self.group())
    }

    pub(crate) fn pub_sub(&self) -> PubSub {
        self.keys.pub_sub()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::Shares;

    #[test]
    fn it_lies_in_a_partition_of_the_lane_and_follows_it() {
        let (shares, keys) = (Shares::even(1), Keys::new("dunlin:").sharded());
        let mut probe = ProbeChannel::new(keys.clone(), shares.of(0));
        let first = probe.name().clone();
        assert_eq!((probe.group(), probe.follow()), (Partition::FIRST, None));
        shares.give(Partition::FIRST, 1);
        assert_eq!(probe.follow(), Some(first));
        assert_eq!(probe.group().place(), 1);
        assert_eq!(*probe.name(), keys.probe_channel(probe.group(), &probe.id));
    }

    #[test]
    fn it_avoids_what_is_half_moved_if_there_is_anything_else() {
        let shares = Shares::even(1);
        let mut probe = ProbeChannel::new(Keys::new("dunlin:").sharded(), shares.of(0));
        let mut clone = probe.clone();
        probe.avoid();
        assert!(clone.follow().is_some() && probe.follow().is_some());
        assert_eq!((probe.group().place(), clone.group().place()), (1, 1));
        probe.avoid();
        assert!(probe.follow().is_some() && probe.group() == Partition::FIRST);
        Partition::all().skip(1).for_each(|it| shares.give(it, 1));
        probe.avoid();
        assert_eq!((probe.follow(), probe.group()), (None, Partition::FIRST));
    }
}
