//! Delivery: everything in the inbox at once, one run per channel, one write per connection.

use std::{borrow::Cow, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use dunlin_core::{
    error::Disconnect,
    hub::{ChannelId, Manner, Run, Turn},
    inbox::Notice,
    publication::Publication,
    session::Input,
};
use tokio::{task::yield_now, time::Instant};

use super::Shard;
use crate::{backlog::Cause, connection::Written};

/// Writes between two looks at the clock.
const WRITES_PER_STEP: usize = 64;

/// Writes after which the readers get their turn ...
const WRITES_PER_SLICE: usize = 256;

/// ... or the time, whichever comes first.
const SLICE: Duration = Duration::from_micros(500);

/// How long delivery has kept the shard to itself.
struct Slice {
    began_at: Instant,
    writes: usize,
}

impl Slice {
    fn begin() -> Self {
        Self { began_at: Instant::now(), writes: 0 }
    }

    /// Lets others run when the slice is used up.
    async fn pause(&mut self, writes: usize) {
        self.writes += writes;
        if self.writes >= WRITES_PER_SLICE || self.began_at.elapsed() >= SLICE {
            yield_now().await;
            *self = Self::begin();
        }
    }
}

impl Shard {
    /// Takes turn after turn, for ever.
    pub(super) async fn deliver(self: Rc<Self>) {
        let mut notices = Vec::new();
        let mut endings = Vec::new();
        let mut turn = Turn::default();
        let mut fan_out = FanOut::default();
        loop {
            self.parts.inbox.filled().await;
            self.parts.inbox.take(&mut notices);
            let mut slice = Slice::begin();
            let began_at = slice.began_at;
            let mut publication_count = 0;
            turn.begin();
            for notice in notices.drain(..) {
                match notice {
                    Notice::Publication(publication) => {
                        publication_count += 1;
                        turn.gather(&mut self.hub.borrow_mut(), publication);
                    }
                    Notice::Joined(joined) => {
                        // What came before it is not for the newcomer.
                        if turn.has(&self.hub.borrow(), &joined.channel) {
                            fan_out.deliver_all(&self, &mut turn, &mut slice).await;
                        }
                        self.joined(*joined);
                    }
                    Notice::Turned(channel, how) => {
                        fan_out.deliver_all(&self, &mut turn, &mut slice).await;
                        self.turned(&channel, how);
                    }
                    Notice::PublishAnswered(connection, id, outcome) => {
                        if let Some(connection) = self.connection(connection) {
                            self.tell_session(&connection, Input::Published(id, outcome));
                        }
                    }
                    Notice::PublishFailed(connection, error) => {
                        let why = error.into();
                        endings.push((connection, why, self.plain_close_frame(why)));
                    }
                    Notice::End(connection, why, close_frame) => {
                        endings.push((connection, why, close_frame));
                    }
                }
            }
            fan_out.deliver_all(&self, &mut turn, &mut slice).await;
            for (connection, why, close_frame) in endings.drain(..) {
                if let Some(connection) = self.connection(connection) {
                    self.end_with(&connection, why, close_frame);
                }
            }
            self.parts.metrics.publications_out.inc_by(publication_count);
            self.parts.metrics.fan_out_seconds.observe(began_at.elapsed().as_secs_f64());
            self.tally.flush();
        }
    }

    /// One run to one connection of its channel. True when its client reads and is behind.
    fn deliver_to(self: &Rc<Self>, slot: u32, frames: &Frames<'_>) -> bool {
        let connections = self.connections.borrow();
        let Some(connection) = connections.get(slot as usize) else { return false };
        let (frames, cause) = match &frames.newest {
            None => (&frames.all, Cause::Pushed),
            Some((channel, newest)) => {
                let is_behind = connection.backlog_bytes() > 0;
                (if is_behind { newest } else { &frames.all }, Cause::Conflated(*channel))
            }
        };
        match self.write(connection, frames, cause) {
            Written::Taken => false,
            // What is behind in a channel that conflates is not much.
            Written::Behind => cause == Cause::Pushed && connection.reads(),
            Written::Overrun => {
                let connection = Rc::clone(connection);
                drop(connections);
                self.end(&connection, Disconnect::SlowReader);
                false
            }
        }
    }
}

/// The fan-out of one run after another.
#[derive(Default)]
struct FanOut {
    run_number: u64,
    /// Slots of the next few subscribers, copied out of the hub: a write can end a connection, and
    /// that changes the hub.
    slots: Vec<u32>,
}

impl FanOut {
    /// Writes what the turn has gathered so far, and before it what clients were answered: who is
    /// told that it is subscribed is told so before it gets publications.
    async fn deliver_all(&mut self, shard: &Rc<Shard>, turn: &mut Turn, slice: &mut Slice) {
        shard.flush_replies();
        for run in turn.take() {
            self.deliver(shard, &run, slice).await;
        }
    }

    /// Writes a run to every subscriber of its channel, each format encoded at most once.
    async fn deliver(&mut self, shard: &Rc<Shard>, run: &Run, slice: &mut Slice) {
        self.run_number += 1;
        let base = shard.hub.borrow().last(run.channel);
        for group in 0.. {
            let manner = shard.hub.borrow().manner(run.channel, group).cloned();
            let Some(manner) = manner else { break };
            if shard.hub.borrow().subscribers(run.channel, group, usize::MAX, 1).1.is_empty() {
                continue;
            }
            let wanted = wanted(run, &manner);
            if wanted.is_empty() {
                slice.pause(1).await;
                continue;
            }
            let group = Group { channel: run.channel, group, manner };
            self.deliver_to_group(shard, &group, &wanted, base.as_deref(), slice).await;
        }
        shard.hub.borrow_mut().note_delivered(run);
    }

    async fn deliver_to_group(
        &mut self,
        shard: &Rc<Shard>,
        group: &Group,
        publications: &[Arc<Publication>],
        base: Option<&Publication>,
        slice: &mut Slice,
    ) {
        let mut before = usize::MAX;
        let mut frames = None;
        while before > 0 {
            before = self.next_slots(shard, group, before);
            if self.slots.is_empty() {
                continue;
            }
            let frames = frames.get_or_insert_with(|| {
                let encode = |run| shard.encoder.run(run, group.manner.format, base);
                let newest = &publications[publications.len() - 1..];
                // Who hears of others must hear of all of them.
                let conflates = !group.manner.hears_joins
                    && shard.node().namespaces().conflates(newest[0].channel());
                Frames {
                    all: encode(publications),
                    newest: conflates.then(|| (group.channel, encode(newest))),
                }
            });
            let mut is_pressed = false;
            for &slot in self.slots.iter().rev() {
                is_pressed |= shard.deliver_to(slot, frames);
            }
            if is_pressed && let Some(publication) = publications.first() {
                shard.parts.pressure.note(publication.channel());
            }
            shard.tally.delivered(publications.len() * self.slots.len());
            slice.pause(self.slots.len()).await;
        }
    }

    /// Fills `slots` with the subscribers below `before` that have not had this run, and returns
    /// where they start. Looking at all of them before writing to any lets their memory arrive side
    /// by side instead of one after another.
    fn next_slots(&mut self, shard: &Shard, group: &Group, before: usize) -> usize {
        self.slots.clear();
        let hub = shard.hub.borrow();
        // In a pause the group may have become another one: nobody of that was here before.
        if hub.manner(group.channel, group.group) != Some(&group.manner) {
            return 0;
        }
        let connections = shard.connections.borrow();
        let is_new = |slot: &u32| {
            let connection = connections.get(*slot as usize);
            connection.is_some_and(|connection| connection.begins_run(self.run_number))
        };
        let (start, subscribers) =
            hub.subscribers(group.channel, group.group, before, WRITES_PER_STEP);
        self.slots.extend(subscribers.iter().map(|s| s.connection).filter(is_new));
        start
    }
}

/// A run as a group reads it.
struct Frames<'a> {
    all: Cow<'a, Bytes>,
    /// Its last publication, which alone those get who are behind; absent unless the channel
    /// conflates.
    newest: Option<(ChannelId, Cow<'a, Bytes>)>,
}

/// A group of subscribers who read the same bytes.
struct Group {
    channel: ChannelId,
    group: usize,
    manner: Manner,
}

/// What of a run a group gets: nearly always all of it.
fn wanted<'a>(run: &'a Run, manner: &Manner) -> Cow<'a, [Arc<Publication>]> {
    if run.publications.iter().all(|publication| manner.wants(publication)) {
        return Cow::Borrowed(&run.publications);
    }
    let wanted = run.publications.iter().filter(|publication| manner.wants(publication));
    Cow::Owned(wanted.cloned().collect())
}
