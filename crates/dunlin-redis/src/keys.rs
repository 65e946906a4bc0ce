//! How Dunlin's names look in Redis.
//!
//! Channels are `PREFIX` and the name. Keys begin with `dunlin1:` and the same prefix: no program
//! that knows the channels meets them, and another layout of keys gets another number.
//!
//! ```text
//! dunlin1:PREFIXs:CHANNEL              stream   entries OFFSET-BRANCH: d message, i id
//! dunlin1:PREFIXm:CHANNEL              hash     the channel's position: see lua/settle.lua
//! dunlin1:PREFIXi:LENGTH:CHANNEL:KEY   string   how a publish with an idempotency key ended
//! dunlin1:PREFIXn                      zset     nodes by the end of their lease
//! dunlin1:PREFIXl:NODE                 string   the number of a node's last call
//! dunlin1:PREFIXc:NODE                 set      the channels where a node has members
//! dunlin1:PREFIXh:CHANNEL              set      the nodes that have members there
//! dunlin1:PREFIXp:NODE:CHANNEL         hash     CLIENT: what is known of a member
//! ```

use bytes::Bytes;
use dunlin_core::channel::ChannelName;

/// Names things in Redis for the nodes that share one prefix; nodes with another do not meet them.
#[derive(Debug, Clone)]
pub struct Keys {
    channel_prefix: String,
    start: String,
    stream: String,
    meta: String,
    answer: String,
}

impl Keys {
    /// Names that start with `channel_prefix`, which may be empty.
    pub fn new(channel_prefix: impl Into<String>) -> Self {
        let channel_prefix = channel_prefix.into();
        let start = format!("dunlin1:{channel_prefix}");
        let [stream, meta, answer] = ["s:", "m:", "i:"].map(|kind| format!("{start}{kind}"));
        Self { channel_prefix, start, stream, meta, answer }
    }

    /// The Redis channel of a channel.
    pub fn channel(&self, channel: &ChannelName) -> Bytes {
        self.channel_parts(channel).concat().into()
    }

    /// The same in the two parts it consists of.
    pub fn channel_parts<'a>(&'a self, channel: &'a ChannelName) -> [&'a [u8]; 2] {
        [self.channel_prefix.as_bytes(), channel.as_str().as_bytes()]
    }

    /// The key of what is kept of a channel, in parts.
    pub fn stream<'a>(&'a self, channel: &'a ChannelName) -> [&'a [u8]; 2] {
        [self.stream.as_bytes(), channel.as_str().as_bytes()]
    }

    /// The key of a channel's position, in parts.
    pub fn meta<'a>(&'a self, channel: &'a ChannelName) -> [&'a [u8]; 2] {
        [self.meta.as_bytes(), channel.as_str().as_bytes()]
    }

    /// The key of how the publish with an idempotency key ended. The length keeps apart what a
    /// colon in both would make the same.
    pub fn answer(&self, channel: &ChannelName, idempotency_key: &str) -> Bytes {
        let (prefix, channel) = (&self.answer, channel.as_str());
        format!("{prefix}{}:{channel}:{idempotency_key}", channel.len()).into()
    }

    /// How all keys begin.
    pub fn start(&self) -> &[u8] {
        self.start.as_bytes()
    }

    /// The key of the nodes that have members somewhere.
    pub fn nodes(&self) -> Bytes {
        format!("{}n", self.start).into()
    }

    /// The key of the nodes that have members of a channel.
    pub fn hosts(&self, channel: &ChannelName) -> Bytes {
        format!("{}h:{}", self.start, channel.as_str()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_prefix_and_name() {
        let channel = ChannelName::new("chat").unwrap();
        assert_eq!(&Keys::new("dunlin:").channel(&channel)[..], b"dunlin:chat");
        assert_eq!(&Keys::new("").channel(&channel)[..], b"chat");
    }

    #[test]
    fn a_key_is_no_channel_and_names_one_thing() {
        let (left, right) = (ChannelName::new("a:b").unwrap(), ChannelName::new("a").unwrap());
        let keys = Keys::new("dunlin:");
        assert_eq!(keys.stream(&left).concat(), b"dunlin1:dunlin:s:a:b");
        assert_eq!(keys.meta(&left).concat(), b"dunlin1:dunlin:m:a:b");
        assert_eq!(&keys.answer(&left, "c")[..], b"dunlin1:dunlin:i:3:a:b:c");
        assert_ne!(keys.answer(&left, "c"), keys.answer(&right, "b:c"));
    }
}
