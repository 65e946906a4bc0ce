//! Who is at the other end of a connection.

use std::{
    cell::{Cell, OnceCell, RefCell},
    sync::Arc,
};

use dunlin_core::{
    channel::ChannelName, hub::SubscriptionId, namespace::ChannelOptions, session::Session,
};
use tokio::{sync::Semaphore, time::Instant};

/// Who is at the other end, by the dialect that it speaks.
pub(crate) enum Client {
    /// The plain dialect: one channel, from the beginning to the end.
    Plain(Listener),
    /// The Centrifuge dialect.
    Centrifuge(Box<Dialogue>),
}

/// A client of the plain dialect.
pub(crate) struct Listener {
    channel: ChannelName,
    options: Arc<ChannelOptions>,
    subscription: Cell<Option<SubscriptionId>>,
}

impl Listener {
    pub(crate) fn new(
        channel: ChannelName,
        options: Arc<ChannelOptions>,
        subscription: SubscriptionId,
    ) -> Self {
        Self { channel, options, subscription: Cell::new(Some(subscription)) }
    }

    pub(crate) fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The options of its channel.
    pub(crate) fn options(&self) -> &ChannelOptions {
        &self.options
    }

    pub(crate) fn subscription(&self) -> &Cell<Option<SubscriptionId>> {
        &self.subscription
    }
}

/// A client of the Centrifuge dialect.
pub(crate) struct Dialogue {
    session: RefCell<Session>,
    /// What it is told and what waits to be written together.
    replies: RefCell<Vec<u8>>,
    /// When its session is woken next.
    alarm: Cell<Option<Instant>>,
    /// Turns for subscriptions that go on where they were; made with the first.
    recoveries: OnceCell<Arc<Semaphore>>,
}

/// How many subscriptions of a client may be told at once what they missed.
const RECOVERIES_MAX: usize = 4;

impl Dialogue {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session: session.into(),
            replies: RefCell::default(),
            alarm: Cell::default(),
            recoveries: OnceCell::new(),
        }
    }

    pub(crate) fn session(&self) -> &RefCell<Session> {
        &self.session
    }

    pub(crate) fn replies(&self) -> &RefCell<Vec<u8>> {
        &self.replies
    }

    pub(crate) fn alarm(&self) -> &Cell<Option<Instant>> {
        &self.alarm
    }

    pub(crate) fn recoveries(&self) -> Arc<Semaphore> {
        Arc::clone(self.recoveries.get_or_init(|| Arc::new(Semaphore::new(RECOVERIES_MAX))))
    }
}
