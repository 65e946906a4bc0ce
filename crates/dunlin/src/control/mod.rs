//! What this node tells all nodes and is told by them: orders of the application, revocations,
//! questions, signs of life. Everything goes through the broker, also what is meant for this node
//! alone: one way only.

mod census;
mod listen;
mod register;
mod revoked;
mod survey;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use dunlin_core::{
    auth::revocation::Revocations,
    broker::{Publish, ReplyTo},
    channel::ChannelName,
    control::{
        self, Answer, Body, Introduction, Message, MessageId, ORDERS_KEPT, Order, REVOCATIONS_KEPT,
    },
    error::ClientError,
    ids::{NodeId, ShardId},
    inbox::Inbox,
    limits::SUBSCRIBE_WAIT,
    namespace::Retention,
    node::Node,
    publication::{Kind, Publication},
};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

use self::register::Register;
pub(crate) use self::survey::Findings;
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
    pub(crate) node_name: String,
}

/// This node among the nodes.
pub(crate) struct Control {
    parts: Parts,
    id: NodeId,
    introduction: Introduction,
    started_at: Instant,
    messages: AtomicU64,
    register: Mutex<Register>,
    /// Who waits for answers to which question.
    surveys: Mutex<HashMap<MessageId, mpsc::Sender<(NodeId, Answer)>>>,
    /// Questions that may be answered side by side.
    answering: Arc<Semaphore>,
}

/// Questions that are answered side by side; those beyond get no answer.
const ANSWERS_MAX: usize = 8;

impl Control {
    /// Starts to listen to all nodes; the task ends by a panic only. Returns once it is known what
    /// is revoked, so that no client comes in by a token that is; without broker that has to wait.
    pub(crate) async fn start(parts: Parts) -> (Arc<Self>, JoinHandle<()>) {
        let control = Arc::new(Self::new(parts));
        let listening = tokio::spawn(Arc::clone(&control).listen());
        let settling = Arc::clone(&control);
        let settling = tokio::spawn(async move { settling.settle().await });
        if timeout(SUBSCRIBE_WAIT, settling).await.is_err() {
            tracing::warn!("not known yet what is revoked: the broker is away");
        }
        (control, listening)
    }

    fn new(parts: Parts) -> Self {
        Self {
            id: NodeId::new(fastrand::u64(..)),
            introduction: Introduction {
                name: parts.node_name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            started_at: Instant::now(),
            messages: AtomicU64::new(0),
            register: Mutex::default(),
            surveys: Mutex::default(),
            answering: Arc::new(Semaphore::new(ANSWERS_MAX)),
            parts,
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
        if let Some(room) = self.parts.node.publish_room() {
            room.await;
        }
        self.parts.node.publish(publish, reply);
    }
}
