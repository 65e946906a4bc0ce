//! Questions about a channel that the broker or the presence store answers: each is a task.

use std::{future::Future, rc::Rc, sync::Arc};

use dunlin_core::{
    broker::{History, HistoryQuery, Since},
    channel::ChannelName,
    command,
    error::ClientError,
    event::{HistoryPage, Outcome},
    namespace::ChannelOptions,
    node::Node,
    publication::{Encoding, Kind},
    rights,
};
use tokio::task::{spawn_local, yield_now};

use super::commands::{Done, channel_name};
use crate::{connection::Connection, shard::Shard};

impl Shard {
    pub(super) fn ask_presence(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        channel: &str,
    ) -> Done {
        let channel = self.may_ask_presence(connection, channel)?;
        self.answer_later(connection, id, move |node| async move {
            // The protocol has no word for more than that.
            Ok(Outcome::Presence(node.presence().members(&channel).await?.first))
        })
    }

    pub(super) fn ask_presence_stats(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        channel: &str,
    ) -> Done {
        let channel = self.may_ask_presence(connection, channel)?;
        self.answer_later(connection, id, move |node| async move {
            Ok(Outcome::PresenceStats(node.presence().stats(&channel).await?))
        })
    }

    fn may_ask_presence(
        &self,
        connection: &Rc<Connection>,
        channel: &str,
    ) -> Result<ChannelName, ClientError> {
        let channel = channel_name(channel)?;
        let session = connection.session().ok_or(ClientError::Internal)?.borrow();
        let (asker, membership) = (session.asker(self.policy()), session.membership(&channel));
        rights::presence(self.node().namespaces(), &channel, asker, membership)?;
        Ok(channel)
    }

    pub(super) fn ask_history(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        asked: &command::History,
    ) -> Done {
        let channel = channel_name(&asked.channel)?;
        let options = self.may_ask_history(connection, &channel)?;
        let retention = options.retention().ok_or(ClientError::NotAvailable)?;
        let query = self.query(asked)?;
        let encoding = connection.session().ok_or(ClientError::Internal)?.borrow().encoding;
        self.answer_later(connection, id, move |node| async move {
            let History { mut publications, top } =
                node.history(&channel, query, retention).await?;
            // As of what is pushed, binary is for those alone who can read it.
            if encoding == Encoding::Json {
                publications.retain(|publication| publication.kind() == Kind::Text);
            }
            Ok(Outcome::History(Box::new(HistoryPage { publications, top })))
        })
    }

    fn may_ask_history(
        &self,
        connection: &Rc<Connection>,
        channel: &ChannelName,
    ) -> Result<Arc<ChannelOptions>, ClientError> {
        let session = connection.session().ok_or(ClientError::Internal)?.borrow();
        let (asker, membership) = (session.asker(self.policy()), session.membership(channel));
        rights::history(self.node().namespaces(), channel, asker, membership).map(Arc::clone)
    }

    fn query(&self, asked: &command::History) -> Result<HistoryQuery, ClientError> {
        let since = match &asked.since {
            None => None,
            Some(since) if asked.is_reverse && since.offset == 0 => {
                return Err(ClientError::BadRequest);
            }
            Some(since) => {
                let epoch = match since.epoch.as_str() {
                    "" => None,
                    text => Some(text.parse().map_err(|_| ClientError::UnrecoverablePosition)?),
                };
                Some(Since { offset: since.offset, epoch })
            }
        };
        let limit_max = self.policy().history_max;
        let limit = usize::try_from(asked.limit).unwrap_or(limit_max).min(limit_max);
        Ok(HistoryQuery { since, limit, is_reverse: asked.is_reverse })
    }

    /// Answers a command when `ask` has the answer.
    fn answer_later<F>(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        id: u32,
        ask: impl FnOnce(Arc<Node>) -> F + 'static,
    ) -> Done
    where
        F: Future<Output = Result<Outcome, ClientError>> + 'static,
    {
        let turns = self.begin_answer(connection)?;
        let (shard, client) = (Rc::clone(self), connection.id());
        spawn_local(async move {
            // Nobody closes it.
            let _turn = turns.acquire().await;
            if shard.connection(client).is_none() {
                return;
            }
            let outcome = ask(shard.shared_node()).await;
            if let Some(connection) = shard.connection(client) {
                shard.end_answer(&connection, id, outcome);
                // Others that have their answers by now, too, are heard first.
                yield_now().await;
                shard.flush_replies();
            }
        });
        Ok(())
    }
}
