//! Publishing for a client.

use std::rc::Rc;

use bytes::Bytes;
use dunlin_core::{
    broker::{Publish, ReplyTo},
    channel::ChannelName,
    error::{ClientError, PublishOutcome},
    event::Outcome,
    ids::ConnectionId,
    publication::{ClientInfo, Details, Kind, Publication},
    rights,
};

use super::commands::{Done, channel_name};
use crate::{connection::Connection, shard::Shard};

impl Shard {
    /// Publishes what a client sent; [`Shard::publish_answered`] tells it the outcome.
    pub(super) fn publish_for(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        channel: &str,
        data: Bytes,
    ) -> Done {
        let Some(session) = connection.session() else { return Ok(()) };
        let session = session.borrow();
        let channel = channel_name(channel)?;
        if data.is_empty() {
            return Err(ClientError::BadRequest.into());
        }
        let asker = session.asker(self.policy());
        let membership = session.membership(&channel);
        let options = rights::publish(self.node().namespaces(), &channel, asker, membership)?;
        let chan_info = session.subscription(&channel).and_then(|s| s.info.clone());
        let details = Details {
            info: Some(session.info(chan_info)),
            allows_delta: options.delta_publish,
            ..Details::default()
        };
        let kind = if str::from_utf8(&data).is_ok() { Kind::Text } else { Kind::Binary };
        let publication = Publication::new(channel, kind, data).with_details(details);
        let publish = Publish { publication, retention: options.retention(), terms: None };
        self.gather(publish, ReplyTo::Command(connection.id(), id));
        Ok(())
    }

    /// Tells a client how its publish ended.
    pub(crate) fn publish_answered(&self, id: ConnectionId, command: u32, outcome: PublishOutcome) {
        if let Some(connection) = self.connection(id) {
            let outcome = outcome.map(|_| Outcome::Publish).map_err(ClientError::from);
            self.reply(&connection, command, outcome);
        }
    }

    /// Tells a channel's other members that a client came or went.
    pub(super) fn announce(&self, channel: &ChannelName, kind: Kind, info: ClientInfo) {
        let details = Details { info: Some(info), ..Details::default() };
        let publication = Publication::new(channel.clone(), kind, Bytes::new());
        // In order behind what the client published just before.
        self.publish_gathered();
        self.node().publish(publication.with_details(details).into(), ReplyTo::Nobody);
    }
}
