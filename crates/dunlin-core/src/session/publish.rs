//! What a client publishes, and what it asks about a channel.

use std::sync::Arc;

use bytes::Bytes;

use super::{Done, Effect, Inquiry, Rules, Session, asking::Next, channel_name, effect::Step};
use crate::{
    broker::{HistoryQuery, Publish, Since},
    channel::ChannelName,
    command,
    error::{ClientError, PublishOutcome},
    event::Outcome,
    limits::{Deed, Scope},
    namespace::ChannelOptions,
    publication::{Details, Encoding, Kind, Publication},
    rights,
};

impl Session {
    /// Publishes what a client sent; [`Session::published`] tells it the outcome.
    pub(super) fn publish(&self, id: u32, channel: &str, data: Bytes, step: &mut Step<'_>) -> Done {
        let channel = channel_name(channel)?;
        let asker = self.asker(step.context.rules);
        let membership = self.membership(&channel);
        let options = rights::publish(step.context.namespaces, &channel, asker, membership)?;
        // In JSON no bytes are no payload at all.
        let may_be_empty = self.encoding == Encoding::Protobuf && options.allow_empty_data;
        if data.is_empty() && !may_be_empty {
            return Err(ClientError::BadRequest.into());
        }
        if let Some(rate) = options.publications_per_second
            && !step.context.meter.may_publish(&channel, rate)
        {
            step.push(Effect::Limited(Deed::Publications, Scope::Channel));
            return Err(ClientError::TooManyRequests.into());
        }
        let chan_info = self.subscription(&channel).and_then(|s| s.info.clone());
        let details = Details {
            info: Some(self.info(chan_info)),
            allows_delta: options.delta_publish,
            ..Details::default()
        };
        let kind = if str::from_utf8(&data).is_ok() { Kind::Text } else { Kind::Binary };
        let publication = Publication::new(channel, kind, data).with_details(details);
        let publish = Publish { publication, retention: options.retention(), terms: None };
        step.push(Effect::Publish(publish, id));
        Ok(())
    }

    /// Tells a client how its publish ended.
    pub(super) fn published(id: u32, outcome: PublishOutcome, step: &mut Step<'_>) {
        step.reply(id, outcome.map(|_| Outcome::Publish).map_err(ClientError::from));
    }

    pub(super) fn ask_presence(&mut self, id: u32, channel: &str, step: &mut Step<'_>) -> Done {
        let channel = self.may_ask_presence(channel, step)?;
        self.ask(Inquiry::Presence(channel), Next::Reply(id), step)
    }

    pub(super) fn ask_presence_stats(
        &mut self,
        id: u32,
        channel: &str,
        step: &mut Step<'_>,
    ) -> Done {
        let channel = self.may_ask_presence(channel, step)?;
        self.ask(Inquiry::PresenceStats(channel), Next::Reply(id), step)
    }

    fn may_ask_presence(&self, channel: &str, step: &Step<'_>) -> Result<ChannelName, ClientError> {
        let channel = channel_name(channel)?;
        let (asker, membership) = (self.asker(step.context.rules), self.membership(&channel));
        rights::presence(step.context.namespaces, &channel, asker, membership)?;
        Ok(channel)
    }

    pub(super) fn ask_history(
        &mut self,
        id: u32,
        asked: &command::History,
        step: &mut Step<'_>,
    ) -> Done {
        let channel = channel_name(&asked.channel)?;
        let options = self.may_ask_history(&channel, step)?;
        let retention = options.retention().ok_or(ClientError::NotAvailable)?;
        let query = query(asked, step.context.rules)?;
        self.ask(Inquiry::History(channel, query, retention), Next::Reply(id), step)
    }

    fn may_ask_history<'a>(
        &self,
        channel: &ChannelName,
        step: &Step<'a>,
    ) -> Result<&'a Arc<ChannelOptions>, ClientError> {
        let (asker, membership) = (self.asker(step.context.rules), self.membership(channel));
        rights::history(step.context.namespaces, channel, asker, membership)
    }
}

fn query(asked: &command::History, rules: &Rules) -> Result<HistoryQuery, ClientError> {
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
    let limit = usize::try_from(asked.limit).unwrap_or(rules.history_max).min(rules.history_max);
    Ok(HistoryQuery { since, limit, is_reverse: asked.is_reverse })
}
