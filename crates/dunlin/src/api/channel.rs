//! What there is to know of one channel: who is in it and what was published to it.

use std::sync::Arc;

use dunlin_core::{
    broker::{HistoryQuery, Since},
    channel::ChannelName,
    control::Order,
    error::{ClientError, HistoryError},
    namespace::{ChannelOptions, Retention},
};

use super::{Api, failure::Failure, fields, reply::Reply};

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
            let why = "before offset 0 there is nothing; leave it out to read from the end";
            return Err(Failure::of_field("since", why));
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
    pub(super) fn options(&self, channel: &ChannelName) -> Result<&Arc<ChannelOptions>, Failure> {
        self.node.namespaces().options(channel).ok_or_else(|| {
            let why = format_args!("the namespace of {channel} is not in channel.namespaces");
            Failure::new(ClientError::UnknownChannel, why)
        })
    }

    fn channel_with_presence(&self, fields: fields::OfChannel) -> Result<ChannelName, Failure> {
        let channel = name("channel", fields.channel)?;
        match self.options(&channel)?.presence {
            true => Ok(channel),
            false => Err(without(&channel, "presence")),
        }
    }

    fn channel_with_history(
        &self,
        written: Option<String>,
    ) -> Result<(ChannelName, Retention), Failure> {
        let channel = name("channel", written)?;
        let retention = self.options(&channel)?.retention();
        retention.map(|it| (channel.clone(), it)).ok_or_else(|| without(&channel, "history"))
    }
}

fn without(channel: &ChannelName, what: &str) -> Failure {
    Failure::new(ClientError::NotAvailable, format_args!("{channel} has no {what}"))
}

/// A channel's name as a caller wrote it into this field.
pub(super) fn name(field: &'static str, written: Option<String>) -> Result<ChannelName, Failure> {
    let name = ChannelName::new(&written.unwrap_or_default());
    name.map_err(|why| Failure::of_field(field, why))
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
