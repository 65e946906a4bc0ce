//! What a connection causes, counted where that is bounded: for itself, its user and its address.
//! Commands that are too many are refused by the session, which asks here; whoever sends too much
//! is not read from until it may send again.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    channel::ChannelName,
    limits::{Buckets, Deed, Deeds, Rate, Rates, Scope},
    session::Meter,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    connection::{Client, Connection},
    front::crowd::AddressPlace,
    shard::Shard,
};

/// A connection among others.
pub(crate) struct Around<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) connection: &'a Connection,
}

/// How much is published in the channels that have a bound, by all publishers of a node.
pub(crate) struct Paces {
    published: Mutex<Buckets<ChannelName>>,
    started_at: Instant,
}

impl Paces {
    pub(crate) fn new() -> Self {
        Self { published: Mutex::default(), started_at: Instant::now() }
    }

    /// Counts one more publication, unless there are too many.
    pub(crate) fn may(&self, channel: &ChannelName, rate: Rate) -> bool {
        self.published.lock().take(channel, rate, 1, self.now_ms())
    }

    /// Counts publications; says for how many milliseconds there are too many now.
    fn count(&self, channel: &ChannelName, rate: Rate, count: u32) -> u64 {
        self.published.lock().charge(channel, rate, count, self.now_ms())
    }

    /// How many more there may be now.
    fn left(&self, channel: &ChannelName, rate: Rate) -> u32 {
        self.published.lock().left(channel, rate, self.now_ms())
    }

    fn now_ms(&self) -> u64 {
        self.started_at.elapsed().as_millis() as u64
    }
}

/// What was read from a connection.
#[derive(Default)]
pub(crate) struct Metering {
    deeds: Deeds,
    /// For how many milliseconds there was too much, of what, and by whose bound.
    pause: Option<(u64, Deed, Scope)>,
}

impl Meter for Around<'_> {
    fn subscribers(&self, channel: &ChannelName) -> u32 {
        // Connections are dealt out evenly, so here are about as many as elsewhere.
        let here = self.shard.hub().subscriber_count(channel);
        u32::try_from(here.saturating_mul(self.shard.shard_count())).unwrap_or(u32::MAX)
    }

    fn share(&self, user: &Arc<str>, deed: Deed, count: u32) -> Result<(), Scope> {
        if !self.shard.user_counts().may(user, deed, count) {
            return Err(Scope::User);
        }
        match self.address() {
            Some(address) if !address.may(deed, count) => Err(Scope::Address),
            _ => Ok(()),
        }
    }

    fn may_publish(&self, channel: &ChannelName, rate: Rate) -> bool {
        self.shard.paces().may(channel, rate)
    }
}

impl Around<'_> {
    /// Whether anything is bounded of what the client sends.
    pub(crate) fn is_bounded(&self) -> bool {
        self.shard.policy().rules.is_metered || self.pace().is_some()
    }

    /// What bounds all publishers of the channel that a plain client is in.
    fn pace(&self) -> Option<(&ChannelName, Rate)> {
        match self.connection.client() {
            Client::Plain(listener) => {
                let rate = listener.options().publications_per_second?;
                Some((listener.channel(), rate))
            }
            // Its session asks for each command.
            Client::Centrifuge(_) => None,
        }
    }

    /// How many messages may be taken from the client now; one always.
    pub(crate) fn allowance(&self, metering: Option<&Metering>) -> u32 {
        let fresh = Metering::default();
        let deeds = &metering.unwrap_or(&fresh).deeds;
        let per_message = self.deeds_of_a_message();
        let allowed = per_message.iter().filter(|(_, count)| *count > 0).map(|(deed, count)| {
            // What costs more than there is left goes on credit.
            self.left(deeds, *deed).div_ceil(*count)
        });
        allowed.min().unwrap_or(u32::MAX).max(1)
    }

    fn left(&self, deeds: &Deeds, deed: Deed) -> u32 {
        let own = deeds.left(self.rates(), deed, self.shard.uptime_ms());
        let user = self.with_user(|user| self.shard.user_counts().left(user, deed));
        let address = self.address().map(|address| address.left(deed));
        let pace = self.pace().filter(|_| deed == Deed::Publications);
        let channel = pace.map(|(channel, rate)| self.shard.paces().left(channel, rate));
        [user, address, channel].into_iter().flatten().fold(own, u32::min)
    }

    /// What a message is, as often as it is that. Sessions count what commands are.
    fn deeds_of_a_message(&self) -> [(Deed, u32); 3] {
        let (publications, deliveries) = match self.connection.client() {
            Client::Plain(listener) => (1, self.subscribers(listener.channel())),
            Client::Centrifuge(_) => (0, 0),
        };
        [(Deed::Messages, 1), (Deed::Publications, publications), (Deed::Deliveries, deliveries)]
    }

    fn rates(&self) -> &Rates {
        &self.shard.policy().rules.rates
    }

    fn address(&self) -> Option<&AddressPlace> {
        self.connection.stream()?.place()
    }

    fn with_user<T>(&self, ask: impl FnOnce(&Arc<str>) -> T) -> Option<T> {
        Some(ask(self.connection.session()?.borrow().user()))
    }
}

impl Metering {
    /// So many messages were taken.
    pub(crate) fn messages(&mut self, around: &Around<'_>, messages: u32) {
        for (deed, count) in around.deeds_of_a_message() {
            self.count(around, deed, count.saturating_mul(messages));
        }
    }

    /// So many bytes came.
    pub(crate) fn bytes(&mut self, around: &Around<'_>, bytes: usize) {
        self.count(around, Deed::Bytes, u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    fn count(&mut self, around: &Around<'_>, deed: Deed, count: u32) {
        if count == 0 {
            return;
        }
        let own = self.deeds.count(around.rates(), deed, count, around.shard.uptime_ms());
        let user = around.with_user(|user| around.shard.user_counts().count(user, deed, count));
        let address = around.address().map(|address| address.count(deed, count));
        let pace = around.pace().filter(|_| deed == Deed::Publications);
        let paces = around.shard.paces();
        let channel = pace.map(|(channel, rate)| paces.count(channel, rate, count));
        for (debt_ms, scope) in [
            (own, Scope::Connection),
            (user.unwrap_or(0), Scope::User),
            (address.unwrap_or(0), Scope::Address),
            (channel.unwrap_or(0), Scope::Channel),
        ] {
            if debt_ms > self.pause.map_or(0, |(pause_ms, ..)| pause_ms) {
                self.pause = Some((debt_ms, deed, scope));
            }
        }
    }

    /// How long the client is not to be read from; counts that it was too much.
    pub(crate) fn take_pause(&mut self, shard: &Shard) -> Option<Duration> {
        let (pause_ms, deed, scope) = self.pause.take()?;
        shard.metrics().count_limited(deed.label(), scope);
        Some(Duration::from_millis(pause_ms))
    }
}
