//! The task that listens to all nodes and does what it is told.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    broker::{HistoryQuery, ReplyTo},
    channel::ChannelName,
    control::{
        self, Answer, Body, Message, MessageId, ORDERS_KEPT, Order, Question, REVOCATIONS_KEPT,
        Seen,
    },
    ids::ConnectionId,
    inbox::Notice,
    namespace::Retention,
    publication::Publication,
    stream::Turn,
};
use tokio::time::{Instant, interval, sleep};

use super::{
    Control,
    register::{Acquaintance, HEARTBEAT},
};
use crate::clock::unix_ms;

/// Between attempts while the broker is away.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

impl Control {
    /// Listens, for ever.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut seen = Seen::default();
        let mut turn = Vec::new();
        let mut heartbeat = interval(HEARTBEAT);
        let inbox = Arc::clone(&self.parts.inbox);
        loop {
            tokio::select! {
                () = inbox.filled() => inbox.take(&mut turn),
                _ = heartbeat.tick() => self.introduce_itself(),
            }
            for notice in turn.drain(..) {
                match notice {
                    Notice::Publication(publication) => self.take(&publication, &mut seen).await,
                    Notice::Turned(channel, turn) => self.turned(&channel, turn, &mut seen).await,
                    // Nobody publishes or connects from here.
                    _ => {}
                }
            }
        }
    }

    /// Subscribes to the nodes' own channels and learns what is revoked already; as often as it
    /// takes. Returns once it hears everything.
    pub(super) async fn settle(&self) {
        let (orders, revoked) = (control::orders(), control::revoked());
        let (nodes, answers) = (control::nodes(), control::answers_to(self.id));
        tokio::join!(
            self.join(&orders, Some(ORDERS_KEPT)),
            self.join(&revoked, Some(REVOCATIONS_KEPT)),
            self.join(&nodes, None),
            self.join(&answers, None),
        );
        self.learn_revoked().await;
    }

    async fn join(&self, channel: &ChannelName, retention: Option<Retention>) {
        // There is no connection; the place of the inbox is what counts.
        let connection = ConnectionId { shard: self.parts.place, slot: 0, generation: 0 };
        while self.parts.node.join(channel, connection, retention, None).await.is_err() {
            sleep(PAUSE).await;
        }
    }

    async fn take(self: &Arc<Self>, publication: &Publication, seen: &mut Seen) {
        let message = match Message::parse(publication.data()) {
            Ok(message) => message,
            Err(error) => return tracing::debug!(%error, "skipped what another node says"),
        };
        let is_own = message.id.node == self.id;
        match message.body {
            Body::Order(order) if *publication.channel() == control::revoked() => {
                self.revoke(&order);
                self.obey(order).await;
            }
            Body::Order(order) => {
                if seen.is_due(message.id, message.sent_at_ms, unix_ms()) {
                    self.obey(order).await;
                } else {
                    tracing::warn!(id = %message.id, "skipped an order that is late or repeated");
                }
            }
            Body::Question(question) if !is_own => self.start_answer(message.id, question),
            Body::Answer(answer) => self.hand_over(message.id, answer),
            Body::Alive(introduction) if !is_own => {
                let node = message.id.node;
                let heard = self.register.lock().hear(node, introduction, Instant::now());
                // It may have started just now, and not know this node either.
                if heard == Acquaintance::New {
                    self.introduce_itself();
                }
            }
            Body::Left {} => self.register.lock().leave(message.id.node),
            Body::Question(_) | Body::Alive(_) => {}
        }
    }

    /// Obeys, or has every shard obey.
    pub(super) async fn obey(&self, order: Order) {
        if let Order::ForgetHistory { channel } = &order {
            return self.parts.node.forget(channel);
        }
        let order = Arc::new(order);
        for shard in &self.parts.shards {
            shard.obey(Arc::clone(&order)).await;
        }
    }

    async fn turned(self: &Arc<Self>, channel: &ChannelName, turn: Turn, seen: &mut Seen) {
        if *channel == control::revoked() {
            let control = Arc::clone(self);
            tokio::spawn(async move { control.learn_revoked().await });
        } else if turn == Turn::Lost {
            tracing::warn!("the broker may have lost orders of the application");
            self.catch_up(channel, seen).await;
        }
    }

    /// Takes all orders that are kept: those among them that came when the broker had forgotten the
    /// others are new.
    async fn catch_up(self: &Arc<Self>, orders: &ChannelName, seen: &mut Seen) {
        let query = HistoryQuery { since: None, limit: ORDERS_KEPT.size, is_reverse: false };
        match self.parts.node.history(orders, query, ORDERS_KEPT).await {
            Ok(kept) => {
                for publication in kept.publications {
                    self.take(&publication, seen).await;
                }
            }
            Err(error) => tracing::warn!(%error, "could not read the orders that are kept"),
        }
    }

    fn introduce_itself(self: &Arc<Self>) {
        let control = Arc::clone(self);
        tokio::spawn(async move {
            control.say(Body::Alive(control.introduction.clone())).await;
        });
    }

    /// Answers, unless too many questions are being answered already.
    fn start_answer(self: &Arc<Self>, to: MessageId, question: Question) {
        let Ok(permit) = Arc::clone(&self.answering).try_acquire_owned() else { return };
        let control = Arc::clone(self);
        tokio::spawn(async move {
            let parts = control.count(&question).await;
            let last = parts.len() - 1;
            for (number, part) in parts.into_iter().enumerate() {
                let (is_last, number) = (number == last, u32::try_from(number).unwrap_or(u32::MAX));
                let answer = Answer { to, number, is_last, part };
                let message = control.message(Body::Answer(answer));
                let channel = control::answers_to(to.node);
                control.tell(channel, &message, None, ReplyTo::Nobody).await;
            }
            drop(permit);
        });
    }

    /// Gives an answer to who asked, if anybody still waits for it.
    fn hand_over(&self, id: MessageId, answer: Answer) {
        if let Some(waiting) = self.surveys.lock().get(&answer.to) {
            // Without room the node counts as one that did not answer.
            let _ = waiting.try_send((id.node, answer));
        }
    }
}
