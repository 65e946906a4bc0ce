//! How Dunlin's names look in Redis.

use bytes::Bytes;
use dunlin_core::channel::ChannelName;

/// Names things in Redis for the nodes that share one prefix; nodes with another do not meet them.
#[derive(Debug, Clone)]
pub struct Keys {
    channel_prefix: String,
}

impl Keys {
    /// Names that start with `channel_prefix`, which may be empty.
    pub fn new(channel_prefix: impl Into<String>) -> Self {
        Self { channel_prefix: channel_prefix.into() }
    }

    /// The Redis channel of a channel.
    pub fn channel(&self, channel: &ChannelName) -> Bytes {
        self.channel_parts(channel).concat().into()
    }

    /// The same in the two parts it consists of.
    pub fn channel_parts<'a>(&'a self, channel: &'a ChannelName) -> [&'a [u8]; 2] {
        [self.channel_prefix.as_bytes(), channel.as_str().as_bytes()]
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
}
