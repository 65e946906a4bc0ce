//! A census: who is on a shard at one moment.

use std::{collections::HashSet, sync::Arc};

use dunlin_core::{
    channel::ChannelName,
    control::{ConnectionReport, Question},
    publication::Encoding,
};

use super::Shard;
use crate::connection::Connection;

/// What a shard knows about a question; a part is empty when nobody asked for it.
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
    /// Clients that have a client id.
    pub(crate) connections: Vec<ConnectionReport>,
}

impl Shard {
    /// Answers a question, in time linear in what is asked for: everybody else waits meanwhile.
    pub(super) fn census(&self, question: &Question) -> Census {
        match question {
            Question::Node {} => Census {
                clients: self.connections.borrow().len(),
                users: self.users().names().cloned().collect(),
                subscriptions: self.hub.borrow().subscription_count(),
                ..Census::default()
            },
            Question::Channels { pattern } => {
                let hub = self.hub.borrow();
                let channels = hub.channels().filter(|(name, _)| pattern.matches(name.as_str()));
                let channels = channels.map(|(name, count)| (name.clone(), count)).collect();
                Census { channels, ..Census::default() }
            }
            Question::Connections { user } => {
                let connections: Vec<_> = match user {
                    None => self.everyone(),
                    Some(user) => {
                        let users = self.users();
                        users.of(user).filter_map(|slot| self.connection_at(slot)).collect()
                    }
                };
                let connections = connections.iter().filter_map(|one| report(one)).collect();
                Census { connections, ..Census::default() }
            }
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
