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

/// The kinds of inquiries that take turns: tokens, each of which may take a while to check, and
/// questions to the broker or the presence store.
const TOKENS: usize = 0;
const QUESTIONS: usize = 1;

/// How many of each kind are asked at once: others need the answers, too.
const ASKED_MAX: [usize; 2] = [1, 4];

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
    asked: Vec<(Ticket, Next)>,
    /// How many of them are of each kind.
    kinds: [usize; 2],
    /// Those whose turn has not come.
    waiting: VecDeque<(Inquiry, Next)>,
}

impl Pending {
    fn has_room(&self, inquiry: &Inquiry) -> bool {
        kind(inquiry).is_none_or(|kind| self.kinds[kind] < ASKED_MAX[kind])
    }
}

/// The kind of an inquiry; none if it need not wait for a turn.
fn kind(inquiry: &Inquiry) -> Option<usize> {
    match inquiry {
        Inquiry::Admission(_) => None,
        Inquiry::ConnectionToken(_) | Inquiry::SubscriptionToken(_) => Some(TOKENS),
        Inquiry::Presence(_) | Inquiry::PresenceStats(_) | Inquiry::History(..) => Some(QUESTIONS),
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

impl Next {
    /// The kind of the inquiry that it goes on from.
    fn kind(&self) -> Option<usize> {
        match self {
            Self::Admit(_) => None,
            Self::Connect
            | Self::Refresh(_)
            | Self::Subscribe(_)
            | Self::RefreshSubscription(..) => Some(TOKENS),
            Self::Reply(_) => Some(QUESTIONS),
        }
    }
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
        let is_bounded = matches!(next, Next::Reply(_) | Next::Refresh(_))
            || matches!(next, Next::RefreshSubscription(..));
        if is_bounded && pending.asked.len() + pending.waiting.len() >= REPLIES_MAX {
            return Err(ClientError::TooManyRequests);
        }
        if !pending.has_room(&inquiry) {
            pending.waiting.push_back((inquiry, next));
            return Ok(());
        }
        if let Some(kind) = kind(&inquiry) {
            pending.kinds[kind] += 1;
        }
        self.last = self.last.wrapping_add(1);
        let ticket = Ticket(self.last);
        pending.asked.push((ticket, next));
        step.push(Effect::Ask(ticket, inquiry));
        Ok(())
    }

    /// What goes on with the answer; nothing if it is not waited for. Then the turn of the next
    /// inquiry has come.
    fn take(&mut self, ticket: Ticket, step: &mut Step<'_>) -> Option<Next> {
        let pending = self.pending.as_mut()?;
        let place = pending.asked.iter().position(|(asked, _)| *asked == ticket)?;
        let (_, next) = pending.asked.swap_remove(place);
        if let Some(kind) = next.kind() {
            pending.kinds[kind] -= 1;
        }
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
