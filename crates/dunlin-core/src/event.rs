//! Events: what a client is told, before a codec writes it. What is published is not among them: it
//! is encoded once for all who get it, not once for each.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    channel::ChannelName,
    error::ClientError,
    position::Position,
    presence::PresenceStats,
    publication::{ClientInfo, Publication},
};

/// One thing a client is told.
#[derive(Debug)]
pub enum Event {
    /// The answer to a command.
    Reply {
        /// The number that the client gave the command.
        id: u32,
        /// How it went.
        outcome: Result<Outcome, ClientError>,
    },
    /// Something that was not asked for, about a channel.
    Push(ChannelName, Push),
    /// The application gave the connection another end.
    Refreshed(Expiry),
    /// A publication that this client alone gets: it came before its subscription.
    Missed(Arc<Publication>),
    /// The question whether the client is still there.
    Ping,
}

/// What a command came to.
#[derive(Debug)]
pub enum Outcome {
    /// The client is in.
    Connect(Box<Connected>),
    /// The client is subscribed.
    Subscribe(Box<Subscribed>),
    /// The client is subscribed no longer.
    Unsubscribe,
    /// It is published.
    Publish,
    /// Who is there.
    Presence(Vec<ClientInfo>),
    /// How many are there.
    PresenceStats(PresenceStats),
    /// What was published.
    History(Box<HistoryPage>),
    /// The connection goes on.
    Refresh(Expiry),
    /// The subscription goes on.
    SubRefresh(Expiry),
}

/// In how many seconds a new token is due; `None` = never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry(pub Option<u32>);

/// A client that is in.
#[derive(Debug)]
pub struct Connected {
    /// Its id.
    pub client: Arc<str>,
    /// The server's version.
    pub version: &'static str,
    /// When a new token is due.
    pub expiry: Expiry,
    /// Its server-side subscriptions.
    pub subscriptions: Vec<(ChannelName, Subscribed)>,
    /// Seconds between pings of the protocol; 0 = there are none.
    pub ping_s: u32,
}

/// A subscription that stands.
#[derive(Debug, Default)]
pub struct Subscribed {
    /// When a new token is due.
    pub expiry: Expiry,
    /// The client is told when its position is lost.
    pub positioned: bool,
    /// The client can go on after a cut.
    pub recoverable: bool,
    /// Where the client is; behind it come first `publications`, then what is pushed.
    pub position: Option<Position>,
    /// The client asked to go on.
    pub was_recovering: bool,
    /// ... and misses nothing.
    pub recovered: bool,
    /// What it missed, oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// What the application tells the subscriber.
    pub data: Option<Bytes>,
    /// Payloads in this channel are sent as differences.
    pub delta: bool,
    /// The number that stands for the channel in pushes.
    pub number: Option<u32>,
}

/// A part of a channel's history.
#[derive(Debug)]
pub struct HistoryPage {
    /// The publications in the order asked for.
    pub publications: Vec<Arc<Publication>>,
    /// The newest position of the channel.
    pub top: Position,
}

/// What a client is told of a channel without having asked.
#[derive(Debug)]
pub enum Push {
    /// The application subscribed it.
    Subscribe(Box<Subscribed>),
    /// It is subscribed no longer.
    Unsubscribe(Unsubscribe),
}

/// Why a subscription ended that the client did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsubscribe {
    /// The application ended it.
    Server,
    /// Its position is lost: the client should subscribe again and recover what can be.
    PositionLost,
    /// Its token ran out.
    Expired,
}

impl Unsubscribe {
    /// The code in the Centrifuge protocol; from 2500 on a client subscribes again.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Server => 2000,
            Self::PositionLost => 2500,
            Self::Expired => 2501,
        }
    }

    /// The reason beside the code.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Server => "server unsubscribe",
            Self::PositionLost => "insufficient state",
            Self::Expired => "subscription expired",
        }
    }
}
