//! Sessions: what a client of the Centrifuge dialect is and has, independent of how its messages
//! are written. What it asks for is done here, on its shard; what takes time is a task of the shard
//! that answers when it is done.

mod ask;
mod commands;
mod connect;
mod entry;
mod expiry;
mod policy;
mod publish;
mod refresh;
mod replies;
mod server_side;
mod subscribe;
mod subscription;
mod unsubscribe;
mod waiting;

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName,
    publication::{ClientInfo, Encoding},
    rights::{Asker, Membership},
};
use tokio::{sync::Semaphore, time::Instant};

use self::waiting::Waiting;
pub(crate) use self::{
    policy::Policy,
    subscription::{Side, Subscription},
};

/// The state of a client on its shard.
pub(crate) struct Session {
    encoding: Encoding,
    phase: Phase,
    identity: Identity,
    /// Usually one or a few, at most `client.channel_limit`: a search is as good as a table.
    subscriptions: Vec<Subscription>,
    /// Answers under way to commands that take time.
    pending: u16,
    /// Whose turn it is among them to be asked for; made with the first.
    turns: Option<Rc<Semaphore>>,
    /// Events that wait to be written together.
    replies: Vec<u8>,
    pings: Pings,
    /// When [`Shard::wake`](crate::shard::Shard::wake) looks at the session next.
    wakes_at: Option<Instant>,
}

/// How far a client has come.
enum Phase {
    /// It has to say who it is by then.
    Fresh(Instant),
    /// Its server-side subscriptions are being made.
    Connecting(Box<Connecting>),
    /// It is in.
    Connected,
    /// It was told why it is not let in, and nothing it sends counts any more.
    Refused(Instant),
}

/// A connect command that is being answered.
struct Connecting {
    /// The command's number.
    id: u32,
    /// What the client sent meanwhile.
    waiting: Waiting,
    /// Server-side subscriptions to come.
    outstanding: usize,
    /// ... and those that stand, with the notice to others that is due.
    subscribed: Vec<(ChannelName, dunlin_core::event::Subscribed)>,
}

/// Who a client is, as its token says.
#[derive(Clone)]
struct Identity {
    /// Its id among all clients of all nodes.
    client: Arc<str>,
    user: Arc<str>,
    info: Option<Bytes>,
    token: TokenMark,
    /// When its token runs out, in unix seconds.
    expire_at: Option<u64>,
}

/// Which token a right came by: it ends when the token is revoked.
#[derive(Clone, Debug, Default)]
struct TokenMark {
    id: Option<Arc<str>>,
    issued_at: Option<u64>,
}

/// How a client is asked whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pings {
    /// By WebSocket frames.
    Frames,
    /// By messages of the protocol, of which so many are unanswered.
    Messages(u8),
}

/// Answers that may be under way at once.
const PENDING_MAX: u16 = 256;

/// How many of them are asked for at once: others need the broker's answers too.
const ASKED_MAX: usize = 4;

impl Session {
    /// A session whose client has to say who it is by `connect_by`.
    pub(crate) fn new(encoding: Encoding, pings_by_frames: bool, connect_by: Instant) -> Self {
        Self {
            encoding,
            phase: Phase::Fresh(connect_by),
            identity: Identity::nobody(),
            subscriptions: Vec::new(),
            pending: 0,
            turns: None,
            replies: Vec::new(),
            pings: if pings_by_frames { Pings::Frames } else { Pings::Messages(0) },
            wakes_at: None,
        }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The client's id; empty before it is in.
    pub(crate) fn client(&self) -> &Arc<str> {
        &self.identity.client
    }

    /// The client's user; empty = nobody in particular.
    pub(crate) fn user(&self) -> &Arc<str> {
        &self.identity.user
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Whether the client is asked by messages of the protocol whether it is there.
    pub(crate) fn is_pinged_by_messages(&self) -> bool {
        matches!(self.pings, Pings::Messages(_))
    }

    /// Notes that a ping is on its way.
    pub(crate) fn note_ping(&mut self) {
        if let Pings::Messages(unanswered) = &mut self.pings {
            *unanswered = unanswered.saturating_add(1);
        }
    }

    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    fn subscription(&self, channel: &ChannelName) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| subscription.channel == *channel)
    }

    fn subscription_mut(&mut self, channel: &ChannelName) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.channel == *channel)
    }

    fn add_subscription(&mut self, subscription: Subscription) {
        if self.subscriptions.is_empty() {
            // Room for four is what a list takes by itself, and most clients have one.
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription);
    }

    fn remove_subscription(&mut self, channel: &ChannelName) -> Option<Subscription> {
        let is_it = |subscription: &Subscription| subscription.channel == *channel;
        let place = self.subscriptions.iter().position(is_it)?;
        Some(self.subscriptions.swap_remove(place))
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

    fn asker(&self, policy: &Policy) -> Asker<'_> {
        Asker { user: &self.identity.user, trust: policy.trust }
    }

    fn membership(&self, channel: &ChannelName) -> Membership {
        match self.subscription(channel) {
            Some(_) => Membership::Subscriber,
            None => Membership::Outsider,
        }
    }

    /// What others see of the client in a channel.
    fn info(&self, chan_info: Option<Bytes>) -> ClientInfo {
        ClientInfo {
            user: Arc::clone(&self.identity.user),
            client: Arc::clone(&self.identity.client),
            conn_info: self.identity.info.clone(),
            chan_info,
        }
    }
}

impl Identity {
    /// Nobody yet.
    fn nobody() -> Self {
        thread_local! {
            static EMPTY: Arc<str> = Arc::from("");
        }
        let empty = EMPTY.with(Arc::clone);
        Self {
            client: Arc::clone(&empty),
            user: empty,
            info: None,
            token: TokenMark::default(),
            expire_at: None,
        }
    }
}
