//! What clients of a shard publish: gathered, handed to the node together, and what comes of it for
//! its publisher.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use dunlin_core::broker::{Publish, ReplyTo, Room};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Shard, Slice, pressure::PAUSE, share::Consequences};
use crate::connection::Connection;

/// See the module's text.
#[derive(Default)]
pub(super) struct Outbox {
    publishes: RefCell<Vec<(Publish, ReplyTo)>>,
    /// What that leads to which was published since somebody asked.
    consequences: Cell<Consequences>,
    /// Whether there ever was a client that wants deflated frames.
    deflates: Cell<bool>,
    /// Whether somebody published under pressure.
    is_pressed: Cell<bool>,
    /// What the last publisher has to wait for.
    crowd: Cell<Option<Room>>,
}

/// What a publisher has to wait for before it is read from again.
pub(crate) struct Brake {
    /// The broker takes no more.
    room: Option<Room>,
    /// Subscribers who read are behind.
    is_pressed: bool,
    /// It has sent too much.
    pause: Option<Duration>,
}

/// Time between two looks whether a client that has to wait is still there.
const LOOK: Duration = Duration::from_millis(100);

impl Brake {
    /// Waits until it is over.
    pub(crate) async fn released(self, connection: &Connection) {
        if let Some(room) = self.room {
            room.await;
        }
        if self.is_pressed {
            sleep(PAUSE).await;
        }
        let until = self.pause.map(|pause| Instant::now() + pause);
        while let Some(until) = until.filter(|until| Instant::now() < *until) {
            if connection.ending().is_some() {
                break;
            }
            sleep_until(until.min(Instant::now() + LOOK)).await;
        }
    }
}

impl Outbox {
    /// There is a client that wants deflated frames.
    pub(super) fn expect_deflation(&self) {
        self.deflates.set(true);
    }
}

impl Shard {
    /// Gathers a publish; what came together is published together, by
    /// [`Shard::publish_gathered`].
    pub(crate) fn gather(&self, publish: Publish, reply: ReplyTo) {
        let (outbox, channel) = (&self.outbox, publish.publication.channel());
        let (bytes, is_deflated) = (publish.publication.data().len(), outbox.deflates.get());
        let subscribers = self.hub.borrow().subscriber_count(channel);
        let consequences = Consequences::new(subscribers, bytes, is_deflated);
        outbox.consequences.set(outbox.consequences.get().and(consequences));
        if self.parts.pressure.is_on(channel) {
            outbox.is_pressed.set(true);
        }
        outbox.publishes.borrow_mut().push((publish, reply));
    }

    /// Publishes what has been gathered; says how many that are.
    pub(crate) fn publish_gathered(&self) -> usize {
        let mut publishes = self.outbox.publishes.borrow_mut();
        let count = publishes.len();
        if count > 0 {
            self.tally.published(count);
            self.outbox.crowd.set(self.parts.node.publish_all(&mut publishes));
        }
        count
    }

    /// What holds up whoever published last, if anything does; a `pause` of its own does.
    pub(crate) fn take_brake(&self, pause: Option<Duration>) -> Option<Box<Brake>> {
        let (room, is_pressed) = (self.outbox.crowd.take(), self.outbox.is_pressed.take());
        let is_on = room.is_some() || is_pressed || pause.is_some();
        is_on.then(|| Box::new(Brake { room, is_pressed, pause }))
    }

    /// Begins a connection's slice, which is about so many bytes and so many messages at most.
    pub(crate) fn begin_slice(&self, bytes: usize, messages_max: u32) -> Slice {
        // What was published before, by whoever had no slice or made a mistake in it, is not its.
        self.outbox.consequences.take();
        Slice::begin(bytes, messages_max)
    }

    /// Whether a connection's slice is over, after a step that was about so many bytes; what was
    /// published in it counts.
    pub(crate) fn is_over(&self, slice: &mut Slice, bytes: usize) -> bool {
        slice.published(self.outbox.consequences.take());
        slice.is_over(bytes, self.outbox.is_pressed.get())
    }
}
