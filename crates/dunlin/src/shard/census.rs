//! A census: who is on a shard at one moment.

use std::{collections::HashSet, sync::Arc};

use dunlin_core::{channel::ChannelName, control::ConnectionReport, publication::Encoding};

use super::Shard;
use crate::connection::Connection;

/// Who is on a shard.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Clients, those of the plain dialect included.
    pub(crate) clients: usize,
    /// The users among them.
    pub(crate) users: HashSet<Arc<str>>,
    /// Subscriptions of all clients.
    pub(crate) subscriptions: usize,
    /// Channels with subscribers, and how many.
    pub(crate) channels: Vec<(ChannelName, usize)>,
    /// The clients that have a client id.
    pub(crate) connections: Vec<ConnectionReport>,
}

impl Shard {
    /// Counts everybody, in time linear in channels and connections.
    pub(super) fn census(&self) -> Census {
        let hub = self.hub.borrow();
        let channels = hub.channels().map(|(name, count)| (name.clone(), count));
        Census {
            clients: self.connections.borrow().len(),
            users: self.users.borrow().names().cloned().collect(),
            subscriptions: hub.subscription_count(),
            channels: channels.collect(),
            connections: self.everyone().iter().filter_map(|c| report(c)).collect(),
        }
    }
}

/// What is told of a connection, once its client is in.
fn report(connection: &Connection) -> Option<ConnectionReport> {
    let session = connection.session()?.borrow();
    session.is_connected().then(|| ConnectionReport {
        client: Box::from(&**session.client()),
        user: Box::from(&**session.user()),
        protocol: match session.encoding() {
            Encoding::Json => "json".into(),
            Encoding::Protobuf => "protobuf".into(),
        },
        channels: session.subscriptions().iter().map(|s| s.channel.clone()).collect(),
    })
}
