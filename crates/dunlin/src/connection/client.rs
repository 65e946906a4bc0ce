//! Who is at the other end of a connection.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use dunlin_core::{channel::ChannelName, hub::SubscriptionId, namespace::ChannelOptions};

use crate::session::Session;

/// Who is at the other end, by the dialect that it speaks.
pub(crate) enum Client {
    /// The plain dialect: one channel, from the beginning to the end.
    Plain(Listener),
    /// The Centrifuge dialect.
    Centrifuge(Box<RefCell<Session>>),
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
