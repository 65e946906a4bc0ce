//! What clients of a shard publish: gathered, handed to the node together, and what comes of it for
//! its publisher.

use std::cell::{Cell, RefCell};

use dunlin_core::broker::{Publish, ReplyTo, Room};
use tokio::time::sleep;

use super::{Shard, Slice, pressure::PAUSE, share::Consequences};

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
}

impl Brake {
    /// Waits until it is over.
    pub(crate) async fn released(self) {
        if let Some(room) = self.room {
            room.await;
        }
        if self.is_pressed {
            sleep(PAUSE).await;
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

    /// What holds up whoever published last, if anything does.
    pub(crate) fn take_brake(&self) -> Option<Box<Brake>> {
        let brake =
            Brake { room: self.outbox.crowd.take(), is_pressed: self.outbox.is_pressed.take() };
        (brake.room.is_some() || brake.is_pressed).then(|| Box::new(brake))
    }

    /// Begins a connection's slice, which is about so many bytes.
    pub(crate) fn begin_slice(&self, bytes: usize) -> Slice {
        // What was published before, by whoever had no slice or made a mistake in it, is not its.
        self.outbox.consequences.take();
        Slice::begin(bytes)
    }

    /// Whether a connection's slice is over, after a step that was about so many bytes; what was
    /// published in it counts.
    pub(crate) fn is_over(&self, slice: &mut Slice, bytes: usize) -> bool {
        slice.published(self.outbox.consequences.take());
        slice.is_over(bytes, self.outbox.is_pressed.get())
    }
}
