//! A census: who is on a shard at one moment.

use std::{cmp::Reverse, collections::HashSet, sync::Arc};

use dunlin_core::{
    channel::ChannelName,
    control::{ConnectionReport, Measure, Question, TopReport},
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
    /// Those that have most of what was asked for.
    pub(crate) top: Vec<TopReport>,
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
            Question::Top { by, limit } => {
                Census { top: self.top(*by, *limit), ..Census::default() }
            }
        }
    }
}

impl Shard {
    /// The connections that have most of something, the first one first.
    fn top(&self, by: Measure, limit: usize) -> Vec<TopReport> {
        let mut all: Vec<_> =
            self.everyone().into_iter().map(|one| (amount(&one, by), one)).collect();
        all.retain(|(_, one)| one.stream().is_some());
        all.sort_unstable_by_key(|(amount, _)| Reverse(*amount));
        all.truncate(limit);
        all.iter().map(|(_, one)| self.costs(one)).collect()
    }

    fn costs(&self, connection: &Connection) -> TopReport {
        let (client, user) = connection.names();
        TopReport {
            connection: connection.id().to_string().into(),
            client: client.into(),
            user: user.into(),
            address: connection.address_text().into(),
            dialect: connection.dialect().into(),
            age_s: self.age_of(connection).as_secs(),
            used_us: connection.used_us(),
            owed_bytes: connection.backlog_bytes(),
            channels: amount(connection, Measure::Channels),
        }
    }
}

fn amount(connection: &Connection, by: Measure) -> usize {
    match by {
        Measure::Time => connection.used_us() as usize,
        Measure::Owed => connection.backlog_bytes(),
        Measure::Channels => {
            connection.session().map_or(1, |session| session.borrow().subscriptions().len())
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
