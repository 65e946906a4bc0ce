//! Which lane has which partition. Of a list of servers all nodes have to know the same, so it
//! follows from their number; a cluster tells it, and may change it.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use crate::partition::Partition;

/// Which lane has each partition. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<[AtomicU16]>);

impl Shares {
    /// Even shares of so many servers. With one server more, only what it gets moves.
    /// (Lamping and Veach, A Fast, Minimal Memory, Consistent Hash Algorithm.)
    pub(crate) fn even(lanes: usize) -> Self {
        let lane = |partition: Partition| jump(partition.place() as u64, lanes) as u16;
        Self(Partition::all().map(lane).map(AtomicU16::new).collect())
    }

    /// The lane of a partition.
    pub(crate) fn lane(&self, partition: Partition) -> usize {
        usize::from(self.0[partition.place()].load(Ordering::Acquire))
    }

    pub(crate) fn give(&self, partition: Partition, lane: usize) {
        self.0[partition.place()].store(lane as u16, Ordering::Release);
    }

    /// What a lane has.
    pub(crate) fn of(&self, lane: usize) -> Share {
        Share { shares: self.clone(), lane }
    }
}

/// The partitions of a lane. Clones share what changes.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    shares: Shares,
    lane: usize,
}

impl Share {
    pub(crate) fn has_partition(&self, partition: Partition) -> bool {
        self.shares.lane(partition) == self.lane
    }

    /// One that the lane has, the same as long as it has it.
    pub(crate) fn first(&self) -> Option<Partition> {
        Partition::all().find(|partition| self.has_partition(*partition))
    }
}

fn jump(key: u64, buckets: usize) -> usize {
    // Neighbours have to be far from each other.
    let mut state = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let (mut bucket, mut next) = (0, 0);
    while next < buckets {
        bucket = next;
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let scale = (1_u64 << 31) as f64 / ((state >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * scale) as usize;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even() {
        for lanes in 1..=16 {
            let shares = Shares::even(lanes);
            let mut counts = vec![0; lanes];
            Partition::all().for_each(|partition| counts[shares.lane(partition)] += 1);
            let even = Partition::COUNT / lanes;
            assert!(counts.iter().all(|it| (even / 2..=even * 2).contains(it)), "{counts:?}");
        }
    }

    #[test]
    fn with_one_server_more_only_its_own_share_moves() {
        for lanes in 1..16 {
            let (before, after) = (Shares::even(lanes), Shares::even(lanes + 1));
            for partition in Partition::all() {
                let moved = after.lane(partition);
                assert!(moved == before.lane(partition) || moved == lanes);
            }
        }
    }

    /// Nodes of any release have to agree.
    #[test]
    fn shares_stay_what_they_are() {
        let shares = Shares::even(3);
        let first: Vec<_> = Partition::all().take(16).map(|it| shares.lane(it)).collect();
        assert_eq!(first, [2, 1, 2, 0, 0, 1, 2, 0, 1, 1, 1, 0, 0, 2, 1, 2]);
    }

    #[test]
    fn a_share_follows_what_is_given() {
        let shares = Shares::even(1);
        let (one, other) = (shares.of(0), shares.of(1));
        assert_eq!((one.first(), other.first()), (Some(Partition::FIRST), None));
        let partition = Partition::all().nth(7).unwrap();
        shares.give(partition, 1);
        assert!(other.has_partition(partition) && !one.has_partition(partition));
        assert_eq!(other.first(), Some(partition));
    }
}
