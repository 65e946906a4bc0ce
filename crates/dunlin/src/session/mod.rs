//! Sessions on a shard: what happens to a client is handed to its session (core's `session`), and
//! what the session decides is carried out here. What takes time is a task of the shard, which
//! brings the answer when it has it.

mod alarms;
mod inquiries;
mod joining;
mod orders;
mod policy;
mod replies;

use std::{rc::Rc, time::Instant};

use bytes::Bytes;
use dunlin_core::{
    broker::ReplyTo,
    channel::ChannelName,
    error::Disconnect,
    publication::{ClientInfo, Details, Kind, Publication},
    session::{Clock, Context, Effect, Effects, Input},
};
use dunlin_protocol::centrifuge::{self, DecodeError};

pub(crate) use self::policy::Policy;
use crate::{
    clock::unix_now,
    connection::Connection,
    metering::Around,
    shard::{Shard, Slice},
};

/// The clocks of this machine.
struct Clocks;

impl Clock for Clocks {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix(&self) -> u64 {
        unix_now()
    }
}

impl Shard {
    /// What the session of a connection sees of the world.
    fn context<'a>(&'a self, around: &'a Around<'a>) -> Context<'a> {
        let rules = &self.policy().rules;
        Context { rules, namespaces: self.node().namespaces(), clock: &Clocks, meter: around }
    }

    /// Hands an input to a client's session and carries out what comes of it.
    ///
    /// # Errors
    /// Why the client is to be closed.
    fn handle(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        input: Input<'_>,
    ) -> Result<(), Disconnect> {
        let Some(session) = connection.session() else { return Ok(()) };
        let mut effects = self.take_effects();
        let around = Around { shard: self, connection };
        session.borrow_mut().handle(input, &self.context(&around), &mut effects);
        let outcome = self.carry_out(connection, &mut effects);
        self.keep_effects(effects);
        outcome
    }

    /// As [`Shard::handle`], for what no message of the client's brought: it is closed at once.
    pub(crate) fn tell_session(self: &Rc<Self>, connection: &Rc<Connection>, input: Input<'_>) {
        let outcome = self.handle(connection, input);
        self.publish_gathered();
        if let Err(why) = outcome {
            self.end(connection, why);
        }
    }

    /// Does what the commands of a client's message ask for, as many as the slice is enough for;
    /// says how many bytes at the end of the message are left. One command is always done.
    ///
    /// # Errors
    /// Why the client is to be closed.
    pub(crate) fn take_message(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        message: &[u8],
        slice: &mut Slice,
    ) -> Result<usize, Disconnect> {
        let Some(encoding) = connection.session().map(|session| session.borrow().encoding()) else {
            return Ok(0);
        };
        let bytes_max = self.limits().message_bytes;
        let mut commands = centrifuge::commands(encoding, message, bytes_max);
        let mut left = message.len();
        while let Some(command) = commands.next() {
            let command = command.map_err(|error| match error {
                DecodeError::Malformed => Disconnect::BadRequest,
                DecodeError::TooLong => Disconnect::MessageTooBig,
            })?;
            slice.took_message();
            if connection.ending().is_none() {
                self.handle(connection, Input::Command(command))?;
            }
            let Some(rest) = commands.rest() else { break };
            let bytes = left - rest.len();
            left = rest.len();
            if self.is_over(slice, bytes) {
                return Ok(left);
            }
        }
        Ok(0)
    }

    /// Does what a session decided, in order. Behind an error the rest is done, too: the session
    /// has it behind itself. What would only begin is not begun for who has ended meanwhile.
    fn carry_out(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        effects: &mut Effects,
    ) -> Result<(), Disconnect> {
        let mut outcome = Ok(());
        for effect in effects.drain(..) {
            if effect.is_beginning() && connection.ending().is_some() {
                continue;
            }
            outcome = outcome.and(self.carry_out_one(connection, effect));
        }
        outcome
    }

    fn carry_out_one(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        effect: Effect,
    ) -> Result<(), Disconnect> {
        match effect {
            Effect::Publish(publish, command) => {
                self.gather(publish, ReplyTo::Command(connection.id(), command));
            }
            Effect::Tell(event) => self.tell(connection, &event),
            Effect::HoldBack => connection.hold_back(),
            Effect::TellFirst(event) => self.tell_first(connection, &event),
            Effect::DropHeldBack => self.forget_held_back(connection),
            Effect::Ask(ticket, inquiry) => return self.inquire(connection, ticket, inquiry),
            Effect::Join(join) => self.join(connection, *join),
            Effect::Leave(place) => self.leave_hub(place),
            Effect::Appear(channel, info, farewell) => self.appear(channel, info, farewell),
            Effect::Disappear(channel, client) => self.disappear(channel, client),
            Effect::Announce(channel, kind, info) => self.announce(channel, kind, info),
            Effect::WakeAt(at) => self.set_alarm(connection, at),
            Effect::Limited(deed, scope) => self.metrics().count_limited(deed.label(), scope),
            Effect::Note(why) => tracing::debug!("{why}"),
            Effect::Dismiss(user) => self.dismiss(connection, &user),
            Effect::End(why) => return Err(why),
            Effect::EndWith(code, reason) => self.end_by_order(connection, code, &reason),
        }
        Ok(())
    }

    /// Tells a channel's other members that a client came or went.
    fn announce(&self, channel: ChannelName, kind: Kind, info: ClientInfo) {
        let details = Details { info: Some(info), ..Details::default() };
        let publication = Publication::new(channel, kind, Bytes::new());
        // In order behind what the client published just before.
        self.publish_gathered();
        self.node().publish(publication.with_details(details).into(), ReplyTo::Nobody);
    }
}
