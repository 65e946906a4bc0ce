//! How Dunlin's names look in Redis.
//!
//! Channels are `PREFIX` and the name, behind `DATABASE:` unless that is 0; in a cluster
//! `PREFIX{TAG}` and the name, since there a message travels among the servers of a slot. Keys
//! begin with `dunlin2:`, the tag of the channel's partition and the same prefix: no program that
//! knows the channels meets them, and another layout of keys gets another number.
//!
//! ```text
//! dunlin2:{TAG}PREFIXs:CHANNEL              stream   entries OFFSET-BRANCH: d message, i id
//! dunlin2:{TAG}PREFIXm:CHANNEL              hash     the channel's position: see lua/settle.lua
//! dunlin2:{TAG}PREFIXr:CHANNEL              hash     what is put back: see lua/restore.lua
//! dunlin2:{TAG}e                            string   the seed of epochs: see lua/settle.lua
//! dunlin2:{TAG}PREFIXi:LENGTH:CHANNEL:KEY   string   how a publish with an idempotency key ended
//! dunlin2:{TAG}PREFIXn                      zset     nodes by the end of their lease
//! dunlin2:{TAG}PREFIXl:NODE                 string   the number of a node's last call
//! dunlin2:{TAG}PREFIXc:NODE                 set      the channels where a node has members
//! dunlin2:{TAG}PREFIXh:CHANNEL              set      the nodes that have members there
//! dunlin2:{TAG}PREFIXp:NODE:CHANNEL         hash     CLIENT: what is known of a member
//! dunlin2:{TAG}PREFIXu:CHANNEL              hash     USER: how many members it is, on all nodes
//! dunlin2:{TAG}PREFIXb:NODE                 string   the node's last probe
//! dunlin2:{TAG}PREFIXb:                     never    see below
//! dunlin2:{TAG}PREFIXt                      string   PLACE/COUNT of this server in nodes' lists
//! dunlin2:{TAG}PREFIXw:REIGN                zset     nodes by when they last were at this server
//! ```
//!
//! A call of a script names as its keys whatever it touches: while their slot moves from one server
//! of a cluster to another, a call with a key that is not there is refused before it starts (ASK or
//! TRYAGAIN), and one that comes upon such a key fails in its middle. What finds its keys in data
//! names the key that never exists, and so waits until the slot has moved.

use bytes::Bytes;
use dunlin_core::channel::ChannelName;

use crate::{channels::Verb, partition::Partition};

/// How messages travel in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PubSub {
    /// PUBLISH and SUBSCRIBE: one server.
    Classic,
    /// SPUBLISH and SSUBSCRIBE: those of a channel's slot, in a cluster.
    Sharded,
}

impl PubSub {
    /// How a script begins that publishes.
    pub(crate) fn script_line(self) -> String {
        let command = match self {
            Self::Classic => "PUBLISH",
            Self::Sharded => "SPUBLISH",
        };
        format!("local PUBLISH = '{command}'\n")
    }

    pub(crate) const fn command(self, verb: Verb) -> &'static [u8] {
        match (self, verb) {
            (Self::Classic, Verb::Subscribe) => b"SUBSCRIBE",
            (Self::Classic, Verb::Unsubscribe) => b"UNSUBSCRIBE",
            (Self::Sharded, Verb::Subscribe) => b"SSUBSCRIBE",
            (Self::Sharded, Verb::Unsubscribe) => b"SUNSUBSCRIBE",
        }
    }
}

/// Names things in Redis for the nodes that share one prefix; nodes with another do not meet them.
#[derive(Debug, Clone)]
pub struct Keys {
    pub_sub: PubSub,
    /// How all Redis channels begin.
    channel_prefix: String,
    /// The same without a database.
    prefix: String,
    /// `}PREFIXs:` and the like: what follows a tag.
    stream: String,
    meta: String,
    answer: String,
}

impl Keys {
    /// Names that start with `prefix`, which may be empty.
    pub fn new(prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        let [stream, meta, answer] = ["s:", "m:", "i:"].map(|kind| format!("}}{prefix}{kind}"));
        let channel_prefix = prefix.clone();
        Self { pub_sub: PubSub::Classic, channel_prefix, prefix, stream, meta, answer }
    }

    /// The same for these databases, one of each server. Redis keeps keys apart by database, and
    /// channels not.
    #[must_use]
    pub fn in_databases(self, databases: &[u32]) -> Self {
        if databases.iter().all(|database| *database == 0) {
            return self;
        }
        let numbers: Vec<_> = databases.iter().map(u32::to_string).collect();
        let channel_prefix = format!("{}:{}", numbers.join(","), self.prefix);
        Self { channel_prefix, ..self }
    }

    /// The same with the channels of a cluster.
    #[must_use]
    pub fn sharded(self) -> Self {
        Self { pub_sub: PubSub::Sharded, ..self }
    }

    /// How messages travel.
    pub(crate) fn pub_sub(&self) -> PubSub {
        self.pub_sub
    }

    /// Channels of one group may share a command: in a cluster those of one partition.
    pub(crate) fn group(&self, channel: &ChannelName) -> Partition {
        match self.pub_sub {
            PubSub::Classic => Partition::FIRST,
            PubSub::Sharded => Partition::of(channel),
        }
    }

    /// The Redis channel of a channel.
    pub fn channel(&self, channel: &ChannelName) -> Bytes {
        self.channel_parts(channel).concat().into()
    }

    /// The same in the parts it consists of.
    pub fn channel_parts<'a>(&'a self, channel: &'a ChannelName) -> [&'a [u8]; 5] {
        let [open, tag, close] = match self.pub_sub {
            PubSub::Classic => [""; 3],
            PubSub::Sharded => ["{", Partition::of(channel).tag(), "}"],
        };
        [&self.channel_prefix, open, tag, close, channel.as_str()].map(str::as_bytes)
    }

    /// How all Redis channels of a partition begin.
    pub fn channel_prefix(&self, partition: Partition) -> Bytes {
        let prefix = &self.channel_prefix;
        match self.pub_sub {
            PubSub::Classic => prefix.clone().into(),
            PubSub::Sharded => format!("{prefix}{{{}}}", partition.tag()).into(),
        }
    }

    /// The key of what is kept of a channel, in parts.
    pub fn stream<'a>(&'a self, channel: &'a ChannelName) -> [&'a [u8]; 4] {
        tagged(channel, &self.stream)
    }

    /// The key of a channel's position, in parts.
    pub fn meta<'a>(&'a self, channel: &'a ChannelName) -> [&'a [u8]; 4] {
        tagged(channel, &self.meta)
    }

    /// The key of what epochs of a partition are made of, in parts.
    pub fn seed(&self, partition: Partition) -> [&'static [u8]; 3] {
        [START, partition.tag(), "}e"].map(str::as_bytes)
    }

    /// The key of how the publish with an idempotency key ended. The length keeps apart what a
    /// colon in both would make the same.
    pub fn answer(&self, channel: &ChannelName, idempotency_key: &str) -> Bytes {
        let (tag, kind) = (Partition::of(channel).tag(), &self.answer);
        let (channel, length) = (channel.as_str(), channel.as_str().len());
        format!("{START}{tag}{kind}{length}:{channel}:{idempotency_key}").into()
    }

    /// The key of what waits to be put back into a channel.
    pub fn early(&self, channel: &ChannelName) -> Bytes {
        let start = self.start(Partition::of(channel));
        [&start[..], b"r:", channel.as_str().as_bytes()].concat().into()
    }

    /// How all keys of a partition begin.
    pub fn start(&self, partition: Partition) -> Bytes {
        format!("{START}{}}}{}", partition.tag(), self.prefix).into()
    }

    /// The key that a node's probes write.
    pub fn probe(&self, partition: Partition, node: &str) -> Bytes {
        [&self.start(partition)[..], b"b:", node.as_bytes()].concat().into()
    }

    /// The key that never exists.
    pub fn never(&self, partition: Partition) -> Bytes {
        self.probe(partition, "")
    }

    /// The key of which of how many servers this is.
    pub fn place(&self, partition: Partition) -> Bytes {
        [&self.start(partition)[..], b"t"].concat().into()
    }

    /// The key of the nodes at a server.
    pub(crate) fn company(&self, partition: Partition, reign: u32) -> Bytes {
        [&self.start(partition)[..], format!("w:{reign:08x}").as_bytes()].concat().into()
    }

    /// The Redis channel of a node's probes: the name of no channel, since it is not printable.
    pub fn probe_channel(&self, partition: Partition, node: &str) -> Bytes {
        let name = [&self.channel_prefix(partition)[..], b"\x01probe:", node.as_bytes()];
        name.concat().into()
    }

    /// The key of the nodes that have members somewhere in a partition.
    pub fn nodes(&self, partition: Partition) -> Bytes {
        [&self.start(partition)[..], b"n"].concat().into()
    }

    /// The key of the nodes that have members of a channel.
    pub fn hosts(&self, channel: &ChannelName) -> Bytes {
        let start = self.start(Partition::of(channel));
        [&start[..], b"h:", channel.as_str().as_bytes()].concat().into()
    }
}

fn tagged<'a>(channel: &'a ChannelName, kind: &'a str) -> [&'a [u8]; 4] {
    let tag = Partition::of(channel).tag();
    [START.as_bytes(), tag.as_bytes(), kind.as_bytes(), channel.as_str().as_bytes()]
}

const START: &str = "dunlin2:{";

/// The number of this layout, as in all keys.
pub const LAYOUT: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_begin_with_the_number_of_their_layout() {
        assert_eq!(START, format!("dunlin{LAYOUT}:{{"));
    }

    #[test]
    fn a_channel_is_prefix_and_name() {
        let channel = ChannelName::new("chat").unwrap();
        assert_eq!(&Keys::new("dunlin:").channel(&channel)[..], b"dunlin:chat");
        assert_eq!(&Keys::new("").channel(&channel)[..], b"chat");
    }

    #[test]
    fn a_database_is_part_of_channels_and_not_of_keys() {
        let channel = ChannelName::new("chat").unwrap();
        let keys = |databases: &[u32]| Keys::new("dunlin:").in_databases(databases);
        assert_eq!(&keys(&[0, 0]).channel(&channel)[..], b"dunlin:chat");
        assert_eq!(&keys(&[3]).channel(&channel)[..], b"3:dunlin:chat");
        assert_eq!(&keys(&[0, 3]).channel(&channel)[..], b"0,3:dunlin:chat");
        let probe = keys(&[3]).probe_channel(Partition::FIRST, "n");
        assert!(probe.starts_with(&keys(&[3]).channel_prefix(Partition::FIRST)));
        assert_eq!(keys(&[3]).stream(&channel), keys(&[0]).stream(&channel));
        assert_eq!(keys(&[3]).start(Partition::FIRST), keys(&[0]).start(Partition::FIRST));
    }

    #[test]
    fn a_key_is_no_channel_and_names_one_thing() {
        let (left, right) = (ChannelName::new("a:b").unwrap(), ChannelName::new("a").unwrap());
        let keys = Keys::new("dunlin:");
        let partition = Partition::of(&left);
        let expected = |rest: &str| format!("dunlin2:{{{}}}dunlin:{rest}", partition.tag());
        assert_eq!(keys.stream(&left).concat(), expected("s:a:b").as_bytes());
        assert_eq!(keys.meta(&left).concat(), expected("m:a:b").as_bytes());
        assert_eq!(&keys.answer(&left, "c")[..], expected("i:3:a:b:c").as_bytes());
        assert_eq!(&keys.hosts(&left)[..], expected("h:a:b").as_bytes());
        assert_eq!(&keys.nodes(partition)[..], expected("n").as_bytes());
        assert_eq!(&keys.never(partition)[..], expected("b:").as_bytes());
        assert_ne!(keys.answer(&left, "c"), keys.answer(&right, "b:c"));
    }

    /// What one call touches has to be in one slot, and all nodes have to find the same.
    #[test]
    fn in_a_cluster_all_of_a_partition_carries_its_tag() {
        let channel = ChannelName::new("chat").unwrap();
        let keys = Keys::new("dunlin:").in_databases(&[0]).sharded();
        let partition = keys.group(&channel);
        let start = format!("dunlin:{{{}}}", partition.tag());
        assert_eq!(&keys.channel_prefix(partition)[..], start.as_bytes());
        assert_eq!(&keys.channel(&channel)[..], format!("{start}chat").as_bytes());
        assert!(keys.probe_channel(partition, "n").starts_with(start.as_bytes()));
        let tag = format!("{{{}}}", partition.tag());
        for key in [
            keys.stream(&channel).concat(),
            keys.meta(&channel).concat(),
            keys.seed(partition).concat(),
            keys.answer(&channel, "k").into(),
            keys.never(partition).into(),
        ] {
            let key = String::from_utf8(key).unwrap();
            assert_eq!(key.find('{'), key.find(&tag), "{key}");
        }
        assert_eq!(Keys::new("dunlin:").group(&channel), Partition::FIRST);
    }
}
