//! What can happen to a session.

use std::sync::Arc;

use super::Ticket;
use crate::{
    auth::{
        TokenError,
        claims::{ConnectionClaims, SubscriptionClaims},
        revocation::Revocations,
    },
    broker::HistoryQuery,
    channel::ChannelName,
    command::Command,
    control::Order,
    error::{ClientError, PublishOutcome},
    event::Outcome,
    hub::{Manner, SubscriptionId},
    inbox::Joined,
    namespace::Retention,
    stream::Turn,
};

/// One thing that happens.
#[derive(Debug)]
pub enum Input<'a> {
    /// The client asks for something.
    Command(Command),
    /// What the session asked for with this ticket is known.
    Answer(Ticket, Answer),
    /// A place in a channel's order is there. The client is in the hub in the manner that
    /// [`Session::manner`](super::Session::manner) named; not, if that was none.
    Joined(Joined, Option<Place>),
    /// There is no place to be had.
    NotJoined(&'a ChannelName, ClientError),
    /// How the publish for the command of this number ended.
    Published(u32, PublishOutcome),
    /// Something happened to a channel that the client is in.
    Turned(&'a ChannelName, Turn),
    /// The application wants something of clients, perhaps of this one.
    Order(&'a Order),
    /// More tokens are revoked.
    Revoked(&'a Revocations),
    /// It is as late as the session wanted to know.
    Deadline,
    /// The connection has ended, whoever wanted that.
    Closed,
}

/// A subscriber's place in the hub.
#[derive(Debug)]
pub struct Place {
    /// What ends it.
    pub subscription: SubscriptionId,
    /// How it is served.
    pub manner: Manner,
}

/// What a session has to find out from others.
#[derive(Clone, Debug, PartialEq)]
pub enum Inquiry {
    /// What this connection token says.
    ConnectionToken(String),
    /// What this subscription token says.
    SubscriptionToken(String),
    /// Whether this user may have one more connection; if so it is counted.
    Admission(Arc<str>),
    /// Who is in the channel.
    Presence(ChannelName),
    /// How many are in the channel.
    PresenceStats(ChannelName),
    /// A part of the channel's history.
    History(ChannelName, HistoryQuery, Retention),
}

/// What was found out.
#[derive(Debug)]
pub enum Answer {
    /// What a connection token says.
    Connection(Result<Box<ConnectionClaims>, TokenError>),
    /// What a subscription token says.
    Subscription(Result<Box<SubscriptionClaims>, TokenError>),
    /// The user may, and this is the id of its client; none = it has as many as it may have.
    Admission(Option<Arc<str>>),
    /// What the client is told.
    Outcome(Result<Outcome, ClientError>),
}
