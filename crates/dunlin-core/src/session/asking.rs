//! What a session waits for: the answers to its inquiries, whoever gives them.

use std::collections::VecDeque;

use super::{Answer, Done, Effect, Inquiry, Refusal, Session, connect::Admission, effect::Step};
use crate::{
    channel::ChannelName,
    command,
    error::{ClientError, Disconnect},
    event::Outcome,
    publication::{Encoding, Kind},
};

/// The number of an inquiry, for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u32);

/// Replies that may be under way at once.
const REPLIES_MAX: usize = 256;

/// Inquiries whose answers are to come.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// The last ticket; none is ever given again.
    last: u32,
    /// Absent while there are none, as nearly always.
    pending: Option<Box<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    asked: Vec<Asked>,
    /// Those whose turn has not come.
    waiting: VecDeque<(Inquiry, Next)>,
}

#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    answerer: Answerer,
    next: Next,
}

impl Pending {
    fn has_room(&self, inquiry: &Inquiry) -> bool {
        let answerer = Answerer::of(inquiry);
        let asked = self.asked.iter().filter(|asked| asked.answerer == answerer);
        asked.count() < answerer.asked_max()
    }
}

/// Who answers an inquiry. Others need the answers, too, so that inquiries take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answerer {
    /// Whoever has the keys: to check a token may take a while.
    Keys,
    /// The broker or the presence store.
    Broker,
    /// The table of who is here.
    Register,
}

impl Answerer {
    fn of(inquiry: &Inquiry) -> Self {
        match inquiry {
            Inquiry::ConnectionToken(_) | Inquiry::SubscriptionToken(_) => Self::Keys,
            Inquiry::Presence(_) | Inquiry::PresenceStats(_) | Inquiry::History(..) => Self::Broker,
            Inquiry::Admission(_) => Self::Register,
        }
    }

    /// How much it is asked for at once.
    fn asked_max(self) -> usize {
        match self {
            Self::Keys | Self::Register => 1,
            Self::Broker => 4,
        }
    }
}

/// What goes on with an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// The connect command, by its token.
    Connect,
    /// ... and by who else is here.
    Admit(Box<Admission>),
    /// The refresh command of this number.
    Refresh(u32),
    /// The subscription that this command asks for.
    Subscribe(Box<command::Subscribe>),
    /// The command of this number that refreshes the subscription to this channel.
    RefreshSubscription(u32, ChannelName),
    /// The reply to the command of this number.
    Reply(u32),
}

impl Asking {
    /// Asks, or has the inquiry wait for its turn.
    ///
    /// # Errors
    /// [`ClientError::TooManyRequests`] when too many wait for replies already.
    pub(super) fn ask(
        &mut self,
        inquiry: Inquiry,
        next: Next,
        step: &mut Step<'_>,
    ) -> Result<(), ClientError> {
        let pending = self.pending.get_or_insert_default();
        // Other inquiries are as many as there are subscriptions, which have a bound of their own.
        let is_bounded =
            matches!(next, Next::Reply(_) | Next::Refresh(_) | Next::RefreshSubscription(..));
        if is_bounded && pending.asked.len() + pending.waiting.len() >= REPLIES_MAX {
            return Err(ClientError::TooManyRequests);
        }
        if !pending.has_room(&inquiry) {
            pending.waiting.push_back((inquiry, next));
            return Ok(());
        }
        self.last = self.last.wrapping_add(1);
        let ticket = Ticket(self.last);
        pending.asked.push(Asked { ticket, answerer: Answerer::of(&inquiry), next });
        step.push(Effect::Ask(ticket, inquiry));
        Ok(())
    }

    /// What goes on with the answer; nothing if it is not waited for. Then the turn of the next
    /// inquiry has come.
    fn take(&mut self, ticket: Ticket, step: &mut Step<'_>) -> Option<Next> {
        let pending = self.pending.as_mut()?;
        let place = pending.asked.iter().position(|asked| asked.ticket == ticket)?;
        let Asked { next, .. } = pending.asked.swap_remove(place);
        let is_next = pending.waiting.iter().position(|(inquiry, _)| pending.has_room(inquiry));
        if let Some((inquiry, then)) = is_next.and_then(|place| pending.waiting.remove(place)) {
            // There is room: one less is waited for.
            let _ = self.ask(inquiry, then, step);
        }
        self.pending.take_if(|pending| pending.asked.is_empty());
        Some(next)
    }

    /// Nothing is waited for any more.
    pub(super) fn forget(&mut self) {
        self.pending = None;
    }
}

impl Session {
    /// Asks for what a command has to know.
    pub(super) fn ask(&mut self, inquiry: Inquiry, next: Next, step: &mut Step<'_>) -> Done {
        Ok(self.asking.ask(inquiry, next, step)?)
    }

    /// Goes on with what was asked for.
    pub(super) fn take_answer(
        &mut self,
        ticket: Ticket,
        answer: Answer,
        step: &mut Step<'_>,
    ) -> Result<(), Disconnect> {
        let Some(next) = self.asking.take(ticket, step) else { return Ok(()) };
        if self.ends {
            return Ok(());
        }
        match (next, answer) {
            (Next::Connect, Answer::Connection(claims)) => self.connect_with(claims, step),
            (Next::Admit(admission), Answer::Admission(client)) => {
                self.admitted(*admission, client, step)
            }
            (Next::Refresh(id), Answer::Connection(claims)) => {
                let done = self.refresh_with(id, claims, step);
                Self::conclude(id, done, step)
            }
            (Next::Subscribe(asked), Answer::Subscription(claims)) => {
                self.subscribe_with(*asked, claims, step)
            }
            (Next::RefreshSubscription(id, channel), Answer::Subscription(claims)) => {
                let done = self.refresh_subscription_with(id, &channel, claims, step);
                Self::conclude(id, done, step)
            }
            (Next::Reply(id), Answer::Outcome(outcome)) => {
                step.reply(id, outcome.map(|outcome| self.readable(outcome)));
                Ok(())
            }
            // An answer to something else: whoever drives the session has mixed up its tickets.
            (next, _) => {
                debug_assert!(false, "no answer to {next:?}");
                Err(Disconnect::Internal)
            }
        }
    }

    /// Ends a command: done, or answered with its error; or its client ends.
    pub(super) fn conclude(id: u32, done: Done, step: &mut Step<'_>) -> Result<(), Disconnect> {
        match done {
            Ok(()) => Ok(()),
            Err(Refusal::Error(error)) => {
                step.reply(id, Err(error));
                Ok(())
            }
            Err(Refusal::Disconnect(why)) => Err(why),
        }
    }

    /// As of what is pushed, binary is for those alone who can read it.
    fn readable(&self, mut outcome: Outcome) -> Outcome {
        if let Outcome::History(page) = &mut outcome
            && self.encoding == Encoding::Json
        {
            page.publications.retain(|publication| publication.kind() == Kind::Text);
        }
        outcome
    }
}
