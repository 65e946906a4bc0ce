//! Partitions: every channel is in one of a fixed number, and everything that Redis keeps of it
//! carries its partition's tag. So what one script touches lies in one hash slot of a cluster, and
//! a partition is what moves from one primary to another.
//! (Redis cluster specification, key distribution model and hash tags.)

use std::sync::LazyLock;

use dunlin_core::channel::ChannelName;

/// One of [`Partition::COUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u8);

impl Partition {
    /// How many there are: enough to spread evenly over dozens of primaries, and so few that a
    /// node can have a lease in each.
    pub const COUNT: usize = 256;

    /// Where everything is that belongs to no channel.
    pub const FIRST: Self = Self(0);

    /// The partition of a channel: the slot of its name, in a coarser measure.
    #[must_use]
    pub fn of(channel: &ChannelName) -> Self {
        Self((slot(channel.as_str().as_bytes()) / SLOTS_EACH) as u8)
    }

    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// Counts from 0.
    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    /// What stands in braces in its keys. Tags spread evenly over the slots: each lies in the slots
    /// whose names are in its partition.
    #[must_use]
    pub fn tag(self) -> &'static str {
        &TAGS[self.place()]
    }

    /// The slot of its keys.
    #[must_use]
    pub fn slot(self) -> u16 {
        slot(self.tag().as_bytes())
    }
}

/// Some of the partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partitions([bool; Partition::COUNT]);

impl Partitions {
    /// Whether a channel is in one of them.
    pub(crate) fn have(&self, channel: &ChannelName) -> bool {
        self.0[Partition::of(channel).place()]
    }
}

impl<'a> FromIterator<&'a Partition> for Partitions {
    fn from_iter<I: IntoIterator<Item = &'a Partition>>(partitions: I) -> Self {
        let mut some = [false; Partition::COUNT];
        partitions.into_iter().for_each(|partition| some[partition.place()] = true);
        Self(some)
    }
}

/// The hash slot of a key without braces: CRC-16/XMODEM, modulo their number.
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    let crc = |crc: u16, byte: &u8| (crc << 8) ^ CRC[usize::from((crc >> 8) as u8 ^ byte)];
    key.iter().fold(0, crc) % SLOTS
}

/// The hash slots of a cluster.
pub const SLOTS: u16 = 16384;

const SLOTS_EACH: u16 = SLOTS / Partition::COUNT as u16;

/// The smallest number of each partition: all nodes find the same.
static TAGS: LazyLock<Box<[String]>> = LazyLock::new(|| {
    let mut tags = vec![String::new(); Partition::COUNT];
    let mut missing = Partition::COUNT;
    for number in 0.. {
        let tag = format!("{number:x}");
        let found = &mut tags[usize::from(slot(tag.as_bytes()) / SLOTS_EACH)];
        if found.is_empty() {
            *found = tag;
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into()
});

const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // What CLUSTER KEYSLOT answers.
        for (key, expected) in [("", 0), ("123456789", 12739), ("foo", 12182), ("dunlin", 3632)] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn every_partition_has_a_short_tag_of_its_own_in_its_part_of_the_slots() {
        let tags: HashSet<_> = Partition::all().map(Partition::tag).collect();
        assert_eq!(tags.len(), Partition::COUNT);
        for partition in Partition::all() {
            assert_eq!(usize::from(partition.slot() / SLOTS_EACH), partition.place());
            assert!(partition.tag().len() <= 3, "{}", partition.tag());
        }
    }

    #[test]
    fn channels_spread_over_the_partitions() {
        let mut counts = [0; Partition::COUNT];
        for number in 0..25_600 {
            let channel = ChannelName::new(&format!("room:{number}")).unwrap();
            counts[Partition::of(&channel).place()] += 1;
        }
        assert!(counts.iter().all(|count| (40..200).contains(count)), "{counts:?}");
    }
}
