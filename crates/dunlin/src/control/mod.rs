//! What this node tells all nodes and is told by them: orders of the application, revocations,
//! questions, signs of life. Everything goes through the broker, also what is meant for this node
//! alone: one way only.

mod answer;
mod census;
mod clock;
mod gathering;
mod listen;
mod register;
mod revoked;
mod survey;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use dunlin_core::{
    auth::revocation::Revocations,
    broker::{Publish, ReplyTo},
    channel::ChannelName,
    control::{self, Body, Introduction, Message, MessageId, ORDERS_KEPT, Order, REVOCATIONS_KEPT},
    error::ClientError,
    ids::{NodeId, ShardId},
    inbox::Inbox,
    limits::SUBSCRIBE_WAIT,
    metrics::Metrics,
    namespace::Retention,
    node::Node,
    publication::{Kind, Publication},
};
use dunlin_redis::keys::LAYOUT;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

pub(crate) use self::survey::Findings;
use self::{register::Register, survey::Surveys};
use crate::{clock::unix_ms, shard::ShardHandle};

/// Channels that every node is subscribed to for its own sake.
pub(crate) const CHANNELS: usize = 4;

/// What control is made of.
pub(crate) struct Parts {
    pub(crate) node: Arc<Node>,
    /// The inbox at the end of the node's list, which is no shard's.
    pub(crate) inbox: Arc<Inbox>,
    /// Its place in that list.
    pub(crate) place: ShardId,
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) revocations: Arc<RwLock<Revocations>>,
    pub(crate) metrics: Metrics,
    pub(crate) node_name: String,
    /// Whether there can be other nodes.
    pub(crate) has_neighbours: bool,
    /// Whether anything is kept for all nodes: histories, presence, revocations of tokens.
    pub(crate) keeps_anything: bool,
    /// Whether clients come by tokens, which can be revoked.
    pub(crate) takes_tokens: bool,
}

/// This node among the nodes.
pub(crate) struct Control {
    parts: Parts,
    id: NodeId,
    started_at: Instant,
    messages: AtomicU64,
    register: Mutex<Register>,
    /// Who waits for answers to which question.
    surveys: Mutex<Surveys>,
    /// Who asked, with how many parts of the answer it has.
    answers: Mutex<HashMap<MessageId, watch::Sender<u32>>>,
    /// Questions that may be answered side by side.
    answering: Arc<Semaphore>,
    /// Whether it is known what is revoked.
    knows_revoked: AtomicBool,
    /// Held by who writes back what the broker has forgotten.
    restoring: tokio::sync::Mutex<()>,
}

/// What has to be before a node is ready for the first time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsettled {
    /// Where nodes keep things apart, clients would find something else on each.
    #[error("nodes of another release keep apart what this node keeps: {}", nodes.join(", "))]
    OtherLayout { nodes: Vec<String> },
    #[error("the broker does not tell which tokens are revoked")]
    RevocationsUnknown,
}

impl Unsettled {
    /// One word for programs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::OtherLayout { .. } => "other_layout",
            Self::RevocationsUnknown => "revocations_unknown",
        }
    }
}

/// Questions that are answered side by side; those beyond get no answer.
const ANSWERS_MAX: usize = 8;

impl Control {
    /// Starts to listen to all nodes; the task ends by a panic only. Returns once the node is
    /// settled, or that takes too long: then it [is not yet](Self::unsettled).
    pub(crate) async fn start(parts: Parts) -> (Arc<Self>, JoinHandle<()>) {
        let control = Arc::new(Self::new(parts));
        let listening = tokio::spawn(Arc::clone(&control).listen());
        let settling = Arc::clone(&control);
        let settling = tokio::spawn(async move {
            settling.join_all().await;
            settling.learn_revoked().await;
        });
        let settled = timeout(SUBSCRIBE_WAIT, settling).await;
        if let (Err(_), Some(unsettled)) = (settled, control.unsettled()) {
            tracing::warn!("not ready yet: {unsettled}");
        }
        (control, listening)
    }

    /// Why clients may not come yet. Once they may, they may for good.
    pub(crate) fn unsettled(&self) -> Option<Unsettled> {
        if self.knows_revoked.load(Ordering::Acquire) {
            return None;
        }
        let nodes = self.register.lock().of_other_layout(LAYOUT, Instant::now());
        match nodes.is_empty() || !self.parts.keeps_anything {
            true => self.parts.takes_tokens.then_some(Unsettled::RevocationsUnknown),
            false => Some(Unsettled::OtherLayout { nodes }),
        }
    }

    fn new(parts: Parts) -> Self {
        Self {
            id: NodeId::new(fastrand::u64(..)),
            started_at: Instant::now(),
            messages: AtomicU64::new(0),
            register: Mutex::default(),
            surveys: Mutex::default(),
            answers: Mutex::default(),
            answering: Arc::new(Semaphore::new(ANSWERS_MAX)),
            knows_revoked: AtomicBool::new(false),
            restoring: tokio::sync::Mutex::default(),
            parts,
        }
    }

    /// Who this node is now.
    fn introduction(&self) -> Introduction {
        let knows_revoked = self.knows_revoked.load(Ordering::Acquire);
        Introduction {
            name: self.parts.node_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revoked: knows_revoked.then(|| self.revoked_count()),
            layout: Some(LAYOUT),
        }
    }

    /// Gives every node an order, this one too. Returns once the broker has it; nodes that are cut
    /// off get it when they are back.
    ///
    /// # Errors
    /// [`ClientError::Internal`] when the broker does not have it, or may not;
    /// [`ClientError::LimitExceeded`] when as much is revoked as may be.
    pub(crate) async fn order(&self, order: Order) -> Result<(), ClientError> {
        let (channel, retention) = match order {
            // Nodes that start later need them too.
            Order::RevokeToken { .. } | Order::RevokeUser { .. } => {
                self.check_room_for_revocations()?;
                (control::revoked(), REVOCATIONS_KEPT)
            }
            _ => (control::orders(), ORDERS_KEPT),
        };
        let (reply, answered) = oneshot::channel();
        let message = self.message(Body::Order(order));
        if !self.look_for_other_layouts().is_empty() {
            // Nodes of another layout cannot follow a channel that keeps; whoever can has it once.
            self.tell(control::nodes(), &message, None, ReplyTo::Nobody).await;
        }
        self.tell(channel, &message, Some(retention), ReplyTo::Caller(reply)).await;
        answered.await.map_err(|_| ClientError::Internal)??;
        Ok(())
    }

    /// Tells the others that this node is no more.
    pub(crate) async fn leave(&self) {
        self.say(Body::Left {}).await;
    }

    /// Tells all nodes something that is not kept.
    async fn say(&self, body: Body) {
        let message = self.message(body);
        self.tell(control::nodes(), &message, None, ReplyTo::Nobody).await;
    }

    fn message(&self, body: Body) -> Message {
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        let id = MessageId { node: self.id, number };
        Message { id, sent_at_ms: unix_ms(), body }
    }

    async fn tell(
        &self,
        channel: ChannelName,
        message: &Message,
        retention: Option<Retention>,
        reply: ReplyTo,
    ) {
        let text = Bytes::from(message.to_text());
        let publication = Publication::new(channel, Kind::Text, text);
        let publish = Publish { publication, retention, terms: None };
        if let Some(room) = self.parts.node.publish(publish, reply) {
            room.await;
        }
    }
}
