//! The hub: a shard's table of channels and their subscribers. Pure: no socket, no clock, no lock,
//! no encoding.

mod groups;
mod turn;

use std::{collections::HashMap, sync::Arc};

use foldhash::quality::RandomState;
use slab::Slab;

use self::groups::Groups;
pub use self::turn::{Run, Turn};
use crate::{
    channel::ChannelName,
    filter::TagsFilter,
    publication::{Delta, Dialect, Encoding, Format, Kind, Publication, PushFormat},
};

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

/// How a subscriber is served: what it gets of a run, and in which format.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Manner {
    /// The frames it reads.
    pub format: Format,
    /// Whether it is told who comes and goes.
    pub hears_joins: bool,
    /// Which publications it wants; none = all.
    pub filter: Option<Arc<TagsFilter>>,
}

impl Manner {
    /// Everything in one format, and nothing of who comes and goes.
    #[must_use]
    pub fn all(format: Format) -> Self {
        Self { format, hears_joins: false, filter: None }
    }

    /// Whether a subscriber that is served so gets `publication`.
    #[must_use]
    pub fn wants(&self, publication: &Publication) -> bool {
        let can_read = match (publication.kind(), self.format.dialect) {
            (Kind::Join | Kind::Leave, _) => return self.hears_joins,
            (Kind::Text, _) | (Kind::Binary, Dialect::Plain) => true,
            (Kind::Binary, Dialect::Centrifuge(push)) => push.encoding == Encoding::Protobuf,
        };
        let tag = |key: &str| {
            let tag = publication.details().and_then(|details| details.tags.get(key));
            tag.map(String::as_str)
        };
        can_read && self.filter.as_ref().is_none_or(|filter| filter.matches(tag))
    }

    /// The manner of those that have had a publication, where that makes a difference.
    fn after_the_first(&self) -> Option<Self> {
        let Dialect::Centrifuge(push) = self.format.dialect else { return None };
        let dialect = Dialect::Centrifuge(PushFormat { delta: Delta::Fossil, ..push });
        let format = Format { dialect, ..self.format };
        (push.delta == Delta::Full).then(|| Self { format, ..self.clone() })
    }
}

#[derive(Debug)]
struct Channel {
    name: ChannelName,
    generation: u64,
    /// Subscribers by how they are served.
    groups: Groups,
    /// The last publication with a payload, while there are subscribers who want differences.
    last: Option<Arc<Publication>>,
    /// Where the turn that is being gathered keeps this channel's run.
    run: turn::RunMark,
}

#[derive(Debug)]
struct Subscription {
    channel: u32,
    group: u32,
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
        manner: &Manner,
        connection: u32,
    ) -> (SubscriptionId, Company) {
        let channel = self.by_name.get(name).copied();
        let company = if channel.is_some() { Company::Others } else { Company::Alone };
        let channel = channel.unwrap_or_else(|| self.add_channel(name));
        let entry = self.subscriptions.vacant_entry();
        let id = SubscriptionId(index(entry.key()));
        let groups = &mut self.channels[channel as usize].groups;
        let (group, position) = groups.add(manner, Subscriber { connection, subscription: id });
        entry.insert(Subscription { channel, group, position });
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
        let Subscription { channel: slot, group, position } =
            self.subscriptions.remove(id.0 as usize);
        let channel = &mut self.channels[slot as usize];
        if let Some(moved) = channel.groups.remove(group, position) {
            self.subscriptions[moved.subscription.0 as usize].position = position;
        }
        if channel.groups.is_empty() {
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
        group: usize,
        before: usize,
        count: usize,
    ) -> (usize, &[Subscriber]) {
        let Some(channel) = self.known(channel) else { return (0, &[]) };
        let subscribers = channel.groups.subscribers(group);
        let end = before.min(subscribers.len());
        let start = end.saturating_sub(count);
        (start, &subscribers[start..end])
    }

    /// How the subscribers of a group are served; groups are counted from 0. None behind the last
    /// group, and when the channel is gone.
    #[must_use]
    pub fn manner(&self, channel: ChannelId, group: usize) -> Option<&Manner> {
        self.known(channel)?.groups.manner(group)
    }

    /// The publication before a run, for subscribers who want differences.
    #[must_use]
    pub fn last(&self, channel: ChannelId) -> Option<Arc<Publication>> {
        self.known(channel)?.last.clone()
    }

    /// Notes that a run is delivered: those who had to get a first publication whole can read
    /// differences from now on.
    pub fn note_delivered(&mut self, run: &Run) {
        let slot = run.channel.slot as usize;
        let is_known = self.known(run.channel).is_some();
        let has_payload = |publication: &&Arc<Publication>| {
            matches!(publication.kind(), Kind::Text | Kind::Binary)
        };
        let last = run.publications.iter().rev().find(has_payload);
        let (true, Some(last)) = (is_known, last) else { return };
        if !self.channels[slot].groups.manners().any(wants_differences) {
            return;
        }
        self.channels[slot].last = Some(last.kept());
        for group in 0..self.channels[slot].groups.len() {
            let Some(from) = self.channels[slot].groups.manner(group) else { break };
            let had_one = run.publications.iter().any(|publication| from.wants(publication));
            if let Some(manner) = from.after_the_first().filter(|_| had_one) {
                self.move_group(slot, group, &manner);
            }
        }
    }

    /// Serves all subscribers of a group in another manner from now on.
    fn move_group(&mut self, slot: usize, from: usize, manner: &Manner) {
        let groups = &mut self.channels[slot].groups;
        for subscriber in groups.take(from) {
            let subscription = &mut self.subscriptions[subscriber.subscription.0 as usize];
            (subscription.group, subscription.position) = groups.add(manner, subscriber);
        }
    }

    /// Everyone in a channel.
    pub fn everyone(&self, name: &ChannelName) -> impl Iterator<Item = Subscriber> {
        let channel = self.by_name.get(name).map(|slot| &self.channels[*slot as usize]);
        channel.into_iter().flat_map(|channel| channel.groups.everyone()).copied()
    }

    /// All channels with how many subscribers each has here, in no order.
    pub fn channels(&self) -> impl Iterator<Item = (&ChannelName, usize)> {
        self.channels.iter().map(|(_, channel)| (&channel.name, channel.groups.subscriber_count()))
    }

    /// How many subscribers a channel has here.
    #[must_use]
    pub fn subscriber_count(&self, name: &ChannelName) -> usize {
        let channel = self.by_name.get(name).and_then(|slot| self.channels.get(*slot as usize));
        channel.map_or(0, |channel| channel.groups.subscriber_count())
    }

    /// Whether a channel has subscribers here.
    #[must_use]
    pub fn has(&self, name: &ChannelName) -> bool {
        self.by_name.contains_key(name)
    }

    fn known(&self, channel: ChannelId) -> Option<&Channel> {
        let found = self.channels.get(channel.slot as usize);
        found.filter(|found| found.generation == channel.generation)
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
            groups: Groups::new(),
            last: None,
            run: turn::RunMark::default(),
        };
        let slot = index(self.channels.insert(channel));
        self.by_name.insert(name.clone(), slot);
        slot
    }
}

fn wants_differences(manner: &Manner) -> bool {
    let Dialect::Centrifuge(push) = manner.format.dialect else { return false };
    push.delta != Delta::Off
}

fn index(place: usize) -> u32 {
    u32::try_from(place)
        .expect("a shard has fewer than 2^32 subscriptions: limits.connections is checked")
}

#[cfg(test)]
mod tests;
