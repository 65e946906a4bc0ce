//! Commands: what a client asks for, as a codec read it and before anyone judged it. Channels are
//! bare text here, so that a name that cannot be is answered and not dropped.

use bytes::Bytes;

use crate::filter::FilterNode;

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The client's number for it, echoed in the reply; 0 = no reply wanted.
    pub id: u32,
    /// What is asked for.
    pub request: Request,
}

/// What a client can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// To be let in; the first of all commands.
    Connect(Box<Connect>),
    /// To become a subscriber of a channel.
    Subscribe(Box<Subscribe>),
    /// To be a subscriber of this channel no longer.
    Unsubscribe(String),
    /// To publish.
    Publish {
        /// Where to.
        channel: String,
        /// The payload; JSON, or any bytes from clients that speak Protobuf.
        data: Bytes,
    },
    /// Who is in this channel.
    Presence(String),
    /// How many are in this channel.
    PresenceStats(String),
    /// What was published.
    History(Box<History>),
    /// To call a method of the application.
    Rpc {
        /// Which one.
        method: String,
        /// Its argument.
        data: Bytes,
    },
    /// To tell the application something that is not answered.
    Send(Bytes),
    /// To stay connected by this new token.
    Refresh(String),
    /// To stay subscribed by a new token.
    SubRefresh {
        /// The subscription's channel.
        channel: String,
        /// The new token.
        token: String,
    },
    /// The answer to a ping: an empty command.
    Pong,
    /// Something that no server does, or that this one does not know.
    Unknown,
}

/// What a client brings to be let in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connect {
    /// A connection token; empty = none.
    pub token: String,
    /// Channels to be in from the start, and where the client was in them if it wants to go on.
    pub channels: Vec<(String, Option<Resume>)>,
}

/// How a subscription should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscribe {
    /// To what.
    pub channel: String,
    /// A subscription token; empty = none.
    pub token: String,
    /// Where to go on from; none = from now on.
    pub resume: Option<Resume>,
    /// Asks to be told when the position is lost.
    pub positioned: bool,
    /// Asks to be able to go on after a cut.
    pub recoverable: bool,
    /// Asks to be told who comes and goes.
    pub join_leave: bool,
    /// The kind of differences wanted; empty = none.
    pub delta: String,
    /// Which publications are wanted; none = all.
    pub filter: Option<FilterNode>,
    /// Bits of [`Subscribe::COMPACT`] and [`Subscribe::REJECT_UNRECOVERED`].
    pub flag: i64,
    /// The kind of subscription: 0 = a stream. There are no others here.
    pub kind: i32,
}

impl Subscribe {
    /// The flag that asks for a number instead of the channel's name in pushes.
    pub const COMPACT: i64 = 1;
    /// The flag that asks for an error instead of a fresh start when recovery is impossible.
    pub const REJECT_UNRECOVERED: i64 = 2;
}

/// Where a subscriber was, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The last offset that it has.
    pub offset: u64,
    /// The epoch of that offset; empty = whichever there is.
    pub epoch: String,
}

/// Which part of a channel's history is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Of what.
    pub channel: String,
    /// Most publications: 0 = none, only the position; negative = as many as there may be.
    pub limit: i32,
    /// The position behind which, or in reverse before which, to begin; none = the end.
    pub since: Option<Resume>,
    /// The newest first.
    pub is_reverse: bool,
}
