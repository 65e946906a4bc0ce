//! Commands: from a client's message to what is done about each command in it, in order.

use std::rc::Rc;

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName,
    command::{Command, Request},
    error::{ClientError, Disconnect},
    event::Outcome,
};
use dunlin_protocol::centrifuge;
use tokio::sync::Semaphore;

use super::{
    ASKED_MAX, PENDING_MAX, Phase, Pings,
    subscription::State,
    waiting::{self, Waiting},
};
use crate::{connection::Connection, shard::Shard};

/// What became of a command: done, or under way; or an error for the client; or its end.
pub(super) type Done = Result<(), Refusal>;

/// Why a command is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The client is told.
    Error(ClientError),
    /// The client is closed.
    Disconnect(Disconnect),
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self::Error(error)
    }
}

impl From<Disconnect> for Refusal {
    fn from(why: Disconnect) -> Self {
        Self::Disconnect(why)
    }
}

impl Shard {
    /// Does what a client's message asks for.
    ///
    /// # Errors
    /// Why the client is to be closed.
    pub(crate) fn take_message(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        message: &[u8],
    ) -> Result<(), Disconnect> {
        let Some(session) = connection.session() else { return Ok(()) };
        let encoding = session.borrow().encoding;
        let bytes_max = self.limits().message_bytes;
        for command in centrifuge::commands(encoding, message, bytes_max) {
            let command = command.map_err(|_| Disconnect::BadRequest)?;
            self.take_command(connection, command)?;
        }
        Ok(())
    }

    /// Does one command, or lets it wait for one before it.
    pub(super) fn take_command(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        command: Command,
    ) -> Result<(), Disconnect> {
        let id = command.id;
        let done = match self.wait(connection, command) {
            Ok(None) => Ok(()),
            Ok(Some(command)) => self.obey_command(connection, command),
            Err(refusal) => Err(refusal),
        };
        match done {
            Ok(()) => {}
            Err(Refusal::Error(error)) => self.reply(connection, id, Err(error)),
            Err(Refusal::Disconnect(why)) => return Err(why),
        }
        Ok(())
    }

    /// Gives the command back unless it has to wait for one before it.
    fn wait(
        &self,
        connection: &Rc<Connection>,
        command: Command,
    ) -> Result<Option<Command>, Refusal> {
        let Some(session) = connection.session() else { return Ok(None) };
        // Who is told that it ends is nobody any more, and nothing that it sends counts.
        if connection.ending().is_some() {
            return Ok(None);
        }
        let session = &mut *session.borrow_mut();
        let is_connect = matches!(command.request, Request::Connect(_));
        let needs_id = !matches!(command.request, Request::Send(_) | Request::Pong);
        if needs_id && command.id == 0 {
            return Err(Disconnect::BadRequest.into());
        }
        let must_wait = match session.phase {
            Phase::Fresh(_) if is_connect => false,
            Phase::Connecting(_) if !is_connect => true,
            Phase::Connected if !is_connect => {
                joining(&mut session.subscriptions, &command.request).is_some()
            }
            // Not the first one first, or the first one twice, or after it was refused.
            _ => return Err(Disconnect::BadRequest.into()),
        };
        if !must_wait {
            return Ok(Some(command));
        }
        let before = session.waiting_bytes();
        if before > 0 && before + waiting::weight(&command) > waiting::BYTES_MAX {
            return Err(ClientError::TooManyRequests.into());
        }
        let waiting = match &mut session.phase {
            Phase::Connecting(connecting) => Some(&mut connecting.waiting),
            _ => joining(&mut session.subscriptions, &command.request),
        };
        if let Some(waiting) = waiting {
            waiting.push(command);
        }
        Ok(None)
    }

    fn obey_command(self: &Rc<Self>, connection: &Rc<Connection>, command: Command) -> Done {
        let id = command.id;
        match command.request {
            Request::Connect(connect) => self.connect(connection, id, &connect),
            Request::Subscribe(subscribe) => self.subscribe(connection, id, *subscribe),
            Request::Unsubscribe(channel) => {
                // Who is no subscriber has what it wants.
                if let Ok(channel) = ChannelName::new(&channel) {
                    self.end_subscription(connection, &channel);
                }
                self.reply(connection, id, Ok(Outcome::Unsubscribe));
                Ok(())
            }
            Request::Publish { channel, data } => self.publish_for(connection, id, &channel, data),
            Request::Presence(channel) => self.ask_presence(connection, id, &channel),
            Request::PresenceStats(channel) => self.ask_presence_stats(connection, id, &channel),
            Request::History(history) => self.ask_history(connection, id, &history),
            Request::Rpc { .. } => Err(ClientError::NotAvailable.into()),
            Request::Send(Bytes { .. }) => Err(Disconnect::NotAvailable.into()),
            Request::Refresh(token) => self.refresh(connection, id, &token),
            Request::SubRefresh { channel, token } => {
                self.refresh_subscription(connection, id, &channel, &token)
            }
            Request::Pong => self.take_pong(connection),
            Request::Unknown => Err(Disconnect::BadRequest.into()),
        }
    }

    fn take_pong(&self, connection: &Rc<Connection>) -> Done {
        let Some(session) = connection.session() else { return Ok(()) };
        match &mut session.borrow_mut().pings {
            Pings::Messages(unanswered) if *unanswered > 0 => *unanswered -= 1,
            _ => return Err(Disconnect::BadRequest.into()),
        }
        Ok(())
    }

    /// Whether the client may have one more answer under way; then where it waits for its turn.
    ///
    /// # Errors
    /// [`ClientError::TooManyRequests`] when it may not.
    pub(super) fn begin_answer(
        &self,
        connection: &Rc<Connection>,
    ) -> Result<Rc<Semaphore>, ClientError> {
        let mut session = connection.session().ok_or(ClientError::Internal)?.borrow_mut();
        if session.pending == PENDING_MAX {
            return Err(ClientError::TooManyRequests);
        }
        session.pending += 1;
        Ok(Rc::clone(session.turns.get_or_insert_with(|| Rc::new(Semaphore::new(ASKED_MAX)))))
    }

    /// Gives the answer that was under way. Answers that came together leave together.
    pub(super) fn end_answer(
        &self,
        connection: &Rc<Connection>,
        id: u32,
        outcome: Result<Outcome, ClientError>,
    ) {
        if let Some(session) = connection.session() {
            let mut session = session.borrow_mut();
            session.pending = session.pending.saturating_sub(1);
        }
        self.reply(connection, id, outcome);
    }
}

/// Where a command waits that concerns a channel whose subscription is not there yet.
fn joining<'a>(
    subscriptions: &'a mut [super::Subscription],
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

/// A channel as a command names it.
///
/// # Errors
/// [`ClientError::BadRequest`] when there can be no such channel.
pub(super) fn channel_name(name: &str) -> Result<ChannelName, ClientError> {
    ChannelName::new(name).map_err(|_| ClientError::BadRequest)
}
