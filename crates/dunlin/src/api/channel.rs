//! What there is to know of one channel: who is in it and what was published to it.

use std::sync::Arc;

use dunlin_core::{
    broker::{HistoryQuery, Since},
    channel::ChannelName,
    control::Order,
    error::{ClientError, HistoryError},
    namespace::{ChannelOptions, Retention},
};

use super::{Api, fields, reply::Reply};

impl Api {
    pub(super) async fn presence(&self, fields: fields::OfChannel) -> Reply {
        let channel = self.channel_with_presence(fields)?;
        Ok(self.node.presence().members(&channel).await?.into())
    }

    pub(super) async fn presence_stats(&self, fields: fields::OfChannel) -> Reply {
        let channel = self.channel_with_presence(fields)?;
        Ok(self.node.presence().stats(&channel).await?.into())
    }

    pub(super) async fn history(&self, fields: fields::History) -> Reply {
        let (channel, retention) = self.channel_with_history(fields.channel)?;
        let is_reverse = fields.reverse.unwrap_or_default();
        let since = fields.since.map(since).transpose()?;
        // Before the first publication there is none.
        if is_reverse && since.is_some_and(|since| since.offset == 0) {
            return Err(ClientError::BadRequest);
        }
        // Less than zero asks for all that there is.
        let limit = usize::try_from(fields.limit.unwrap_or_default()).unwrap_or(usize::MAX);
        let query = HistoryQuery { since, limit, is_reverse };
        Ok(self.node.history(&channel, query, retention).await?.into())
    }

    pub(super) async fn history_remove(&self, fields: fields::OfChannel) -> Reply {
        let (channel, _) = self.channel_with_history(fields.channel)?;
        self.node.remove_history(&channel).await?;
        self.order(Order::ForgetHistory { channel }).await
    }

    /// The options of a channel, if it can be.
    pub(super) fn options(
        &self,
        channel: &ChannelName,
    ) -> Result<&Arc<ChannelOptions>, ClientError> {
        self.node.namespaces().options(channel).ok_or(ClientError::UnknownChannel)
    }

    fn channel_with_presence(&self, fields: fields::OfChannel) -> Result<ChannelName, ClientError> {
        let channel = name(fields.channel)?;
        match self.options(&channel)?.presence {
            true => Ok(channel),
            false => Err(ClientError::NotAvailable),
        }
    }

    fn channel_with_history(
        &self,
        written: Option<String>,
    ) -> Result<(ChannelName, Retention), ClientError> {
        let channel = name(written)?;
        let retention = self.options(&channel)?.retention().ok_or(ClientError::NotAvailable)?;
        Ok((channel, retention))
    }
}

/// A channel's name as a caller wrote it.
pub(super) fn name(written: Option<String>) -> Result<ChannelName, ClientError> {
    ChannelName::new(&written.unwrap_or_default()).map_err(|_| ClientError::BadRequest)
}

/// A position of the past; an epoch that no node of ours gave out is as lost as any other.
fn since(written: fields::StreamPosition) -> Result<Since, HistoryError> {
    let epoch = written.epoch.filter(|epoch| !epoch.is_empty());
    let epoch = epoch.map(|epoch| epoch.parse()).transpose();
    Ok(Since {
        offset: written.offset.unwrap_or_default(),
        epoch: epoch.map_err(|_| HistoryError::WrongEpoch)?,
    })
}
