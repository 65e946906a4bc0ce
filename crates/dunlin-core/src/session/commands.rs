//! Commands: each is done at once, asks for what it has to know, or waits for one before it.

use bytes::Bytes;

use super::{
    Done, Phase, Pings, Refusal, Session, Subscription,
    effect::Step,
    subscription::State,
    waiting::{self, Waiting},
};
use crate::{
    channel::ChannelName,
    command::{Command, Request},
    error::{ClientError, Disconnect},
    event::Outcome,
};

impl Session {
    /// Does one command, or lets it wait for one before it.
    pub(super) fn take_command(
        &mut self,
        command: Command,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        // Who is told that it ends is nobody any more, and nothing that it sends counts.
        if self.ends {
            return Ok(());
        }
        let id = command.id;
        let done = match self.wait(command) {
            Ok(None) => Ok(()),
            Ok(Some(command)) => self.obey_command(command, step),
            Err(refusal) => Err(refusal),
        };
        Self::conclude(id, done, step)
    }

    /// Does what waited, in order.
    pub(super) fn take_waiting(
        &mut self,
        waiting: Waiting,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        waiting.into_iter().try_for_each(|command| self.take_command(command, step))
    }

    /// Gives the command back unless it has to wait for one before it.
    fn wait(&mut self, command: Command) -> Result<Option<Command>, Refusal> {
        let is_connect = matches!(command.request, Request::Connect(_));
        let needs_id = !matches!(command.request, Request::Send(_) | Request::Pong);
        if needs_id && command.id == 0 {
            return Err(Disconnect::BadRequest.into());
        }
        let must_wait = match self.phase {
            Phase::Fresh(_) if is_connect => false,
            Phase::Connecting(_) if !is_connect => true,
            Phase::Connected if !is_connect => {
                joining(&mut self.subscriptions, &command.request).is_some()
            }
            // Not the first one first, or the first one twice, or after it was refused.
            _ => return Err(Disconnect::BadRequest.into()),
        };
        if !must_wait {
            return Ok(Some(command));
        }
        let before = self.waiting_bytes();
        if before > 0 && before + waiting::weight(&command) > waiting::BYTES_MAX {
            return Err(ClientError::TooManyRequests.into());
        }
        let waiting = match &mut self.phase {
            Phase::Connecting(connecting) => Some(&mut connecting.waiting),
            _ => joining(&mut self.subscriptions, &command.request),
        };
        if let Some(waiting) = waiting {
            waiting.push(command);
        }
        Ok(None)
    }

    /// What the commands weigh that wait for one before them.
    fn waiting_bytes(&self) -> usize {
        let joining = self.subscriptions.iter().map(Subscription::waiting_bytes);
        let connecting = match &self.phase {
            Phase::Connecting(connecting) => connecting.waiting.bytes(),
            _ => 0,
        };
        connecting + joining.sum::<usize>()
    }

    fn obey_command(&mut self, command: Command, step: &mut Step<'_>) -> Done {
        if step.context.rules.is_metered {
            self.meter(&command.request, step)?;
        }
        let id = command.id;
        match command.request {
            Request::Connect(connect) => self.connect(id, *connect, step),
            Request::Subscribe(subscribe) => self.subscribe(id, *subscribe, step),
            Request::Unsubscribe(channel) => {
                // Who is no subscriber has what it wants.
                if let Ok(channel) = ChannelName::new(&channel) {
                    self.end_subscription(&channel, step);
                }
                step.reply(id, Ok(Outcome::Unsubscribe));
                Ok(())
            }
            Request::Publish { channel, data } => self.publish(id, &channel, data, step),
            Request::Presence(channel) => self.ask_presence(id, &channel, step),
            Request::PresenceStats(channel) => self.ask_presence_stats(id, &channel, step),
            Request::History(history) => self.ask_history(id, &history, step),
            Request::Rpc { .. } => Err(ClientError::NotAvailable.into()),
            Request::Send(Bytes { .. }) => Err(Disconnect::NotAvailable.into()),
            Request::Refresh(token) => self.refresh(id, token, step),
            Request::SubRefresh { channel, token } => {
                self.refresh_subscription(id, &channel, token, step)
            }
            Request::Pong => self.take_pong(),
            Request::Unknown => Err(Disconnect::BadRequest.into()),
        }
    }

    fn take_pong(&mut self) -> Done {
        match &mut self.pings {
            Pings::Messages(unanswered) if *unanswered > 0 => *unanswered -= 1,
            _ => return Err(Disconnect::BadRequest.into()),
        }
        Ok(())
    }
}

/// Where a command waits that concerns a channel whose subscription is not there yet.
fn joining<'a>(
    subscriptions: &'a mut [Subscription],
    request: &Request,
) -> Option<&'a mut Waiting> {
    let channel = match request {
        Request::Unsubscribe(channel)
        | Request::Publish { channel, .. }
        | Request::Presence(channel)
        | Request::PresenceStats(channel)
        | Request::SubRefresh { channel, .. } => channel,
        Request::Subscribe(subscribe) => &subscribe.channel,
        Request::History(history) => &history.channel,
        _ => return None,
    };
    let subscription = subscriptions.iter_mut().find(|s| s.channel.as_str() == channel)?;
    match &mut subscription.state {
        State::Joining(joining) => Some(&mut joining.waiting),
        State::Standing(_) => None,
    }
}
