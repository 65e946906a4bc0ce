//! The hub: a shard's table of channels and their subscribers. Pure: no socket, no clock, no lock,
//! no encoding.

mod turn;

use std::collections::HashMap;

use foldhash::quality::RandomState;
use slab::Slab;

pub use self::turn::{Run, Turn};
use crate::{channel::ChannelName, publication::Format};

/// Who is subscribed to what on one shard. Connections are known by their slot only.
#[derive(Debug, Default)]
pub struct Hub {
    channels: Slab<Channel>,
    by_name: HashMap<ChannelName, u32, RandomState>,
    subscriptions: Slab<Subscription>,
    /// Channels made so far; tells apart the channels that used a slot one after another.
    generation: u64,
}

/// A subscription of a connection on this shard, for ending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionId(u32);

/// A channel of this hub for as long as it has subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId {
    slot: u32,
    generation: u64,
}

/// A subscriber as the fan-out meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The slot of its connection on this shard.
    pub connection: u32,
    subscription: SubscriptionId,
}

#[derive(Debug)]
struct Channel {
    name: ChannelName,
    generation: u64,
    /// Subscribers by the format they are served in.
    groups: [Vec<Subscriber>; Format::ALL.len()],
    /// Where the turn that is being gathered keeps this channel's run.
    run: turn::RunMark,
}

#[derive(Debug)]
struct Subscription {
    channel: u32,
    format: Format,
    position: u32,
}

/// Whether a subscriber is alone in its channel on this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// The channel had no subscriber here before, or has none any more.
    Alone,
    /// There are others.
    Others,
}

impl Hub {
    /// Subscribes a connection to a channel. A connection subscribes to a channel once.
    pub fn subscribe(
        &mut self,
        name: &ChannelName,
        format: Format,
        connection: u32,
    ) -> (SubscriptionId, Company) {
        let channel = self.by_name.get(name).copied();
        let company = if channel.is_some() { Company::Others } else { Company::Alone };
        let channel = channel.unwrap_or_else(|| self.add_channel(name));
        let group = &mut self.channels[channel as usize].groups[format as usize];
        let position = index(group.len());
        let subscription = Subscription { channel, format, position };
        let id = SubscriptionId(index(self.subscriptions.insert(subscription)));
        group.push(Subscriber { connection, subscription: id });
        (id, company)
    }

    /// The channel of a subscription, by the one name that all of its subscribers share: an idle
    /// connection keeps no copy.
    ///
    /// # Panics
    /// When `id` has ended.
    #[must_use]
    pub fn channel(&self, id: SubscriptionId) -> &ChannelName {
        let slot = self.subscriptions[id.0 as usize].channel;
        &self.channels[slot as usize].name
    }

    /// Ends a subscription. Names the channel, and whether that was its last subscriber.
    ///
    /// # Panics
    /// When `id` has ended before: its owner must forget it.
    pub fn unsubscribe(&mut self, id: SubscriptionId) -> (ChannelName, Company) {
        let Subscription { channel: slot, format, position } =
            self.subscriptions.remove(id.0 as usize);
        let channel = &mut self.channels[slot as usize];
        let group = &mut channel.groups[format as usize];
        group.swap_remove(position as usize);
        if let Some(moved) = group.get(position as usize) {
            self.subscriptions[moved.subscription.0 as usize].position = position;
        }
        if channel.groups.iter().all(Vec::is_empty) {
            let channel = self.channels.remove(slot as usize);
            self.by_name.remove(&channel.name);
            (channel.name, Company::Alone)
        } else {
            (channel.name.clone(), Company::Others)
        }
    }

    /// The subscribers below `before` in a group, at most `count` of them, and where they start:
    /// the next `before`. For a fan-out that goes from the last to the first with pauses. Empty at
    /// the end, and when the channel is gone.
    ///
    /// Going downwards makes pauses safe. Who leaves meanwhile makes the last subscriber move down,
    /// which can show a subscriber twice but never hide one; who subscribes meanwhile may be shown,
    /// which does no harm. The caller skips whom it has served in this run already.
    #[must_use]
    pub fn subscribers(
        &self,
        channel: ChannelId,
        format: Format,
        before: usize,
        count: usize,
    ) -> (usize, &[Subscriber]) {
        let found = self.channels.get(channel.slot as usize);
        let Some(found) = found.filter(|found| found.generation == channel.generation) else {
            return (0, &[]);
        };
        let group = &found.groups[format as usize];
        let end = before.min(group.len());
        let start = end.saturating_sub(count);
        (start, &group[start..end])
    }

    /// How many channels have subscribers here.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// How many subscriptions there are here.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    fn add_channel(&mut self, name: &ChannelName) -> u32 {
        self.generation += 1;
        let channel = Channel {
            name: name.clone(),
            generation: self.generation,
            groups: Default::default(),
            run: turn::RunMark::default(),
        };
        let slot = index(self.channels.insert(channel));
        self.by_name.insert(name.clone(), slot);
        slot
    }
}

fn index(place: usize) -> u32 {
    u32::try_from(place)
        .expect("a shard has fewer than 2^32 subscriptions: limits.connections is checked")
}

#[cfg(test)]
mod tests;
