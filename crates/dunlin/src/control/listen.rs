//! The task that listens to all nodes and does what it is told.

use std::{sync::Arc, time::Duration};

use dunlin_core::{
    broker::HistoryQuery,
    channel::ChannelName,
    control::{self, Body, Introduction, Message, ORDERS_KEPT, Order, REVOCATIONS_KEPT, Seen},
    ids::{ConnectionId, NodeId},
    inbox::Notice,
    namespace::Retention,
    publication::Publication,
    stream::Turn,
};
use dunlin_redis::keys::LAYOUT;
use tokio::time::{Instant, interval_at, sleep};

use super::{
    Control,
    register::{HEARTBEAT, Moment, News, WrongClock},
};
use crate::clock::unix_ms;

/// Between attempts while the broker is away.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

impl Control {
    /// Listens, for ever.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut seen = Seen::default();
        let mut turn = Vec::new();
        // The first sign of life is given once the answers to it are heard.
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let inbox = Arc::clone(&self.parts.inbox);
        loop {
            tokio::select! {
                () = inbox.filled() => inbox.take(&mut turn),
                _ = heartbeat.tick() => {
                    self.introduce_itself();
                    self.look_for_other_layouts();
                }
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

    /// Subscribes to the nodes' own channels; as often as it takes.
    pub(super) async fn join_all(&self) {
        let (orders, revoked) = (control::orders(), control::revoked());
        let (nodes, answers) = (control::nodes(), control::answers_to(self.id));
        tokio::join!(
            self.join(&orders, Some(ORDERS_KEPT)),
            self.join(&revoked, Some(REVOCATIONS_KEPT)),
            self.join(&nodes, None),
            self.join(&answers, None),
        );
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
                if self.revoke(&order) {
                    self.obey(order).await;
                }
            }
            Body::Order(order) => {
                if seen.is_new(message.id) {
                    self.obey(order).await;
                }
            }
            Body::Question(question) if !is_own => self.start_answer(message.id, question),
            Body::Answer(answer) => self.hand_over(message.id, answer),
            Body::Received { to, count } => self.note_received(to, count),
            Body::Alive(introduction) if !is_own => {
                let news = self.hear(message.id.node, introduction, message.sent_at_ms);
                if news.is_itself {
                    // It may have started just now, and not know this node either.
                    self.introduce_itself();
                }
                if news.revoked.is_some_and(|count| count < self.revoked_count()) {
                    self.start_restoring();
                }
            }
            Body::Left {} => self.register.lock().leave(message.id.node),
            Body::Question(_) | Body::Alive(_) => {}
        }
    }

    /// Notes that a node lives, and tells the operator when clocks differ.
    fn hear(&self, node: NodeId, introduction: Introduction, sent_at_ms: u64) -> News {
        let heard = Moment { now: Instant::now(), clock_ms: unix_ms() };
        let mut register = self.register.lock();
        let news = register.hear(node, introduction, sent_at_ms, heard);
        let wrong = register.wrong_clock();
        let differs_s = wrong.as_ref().map_or(0.0, |clock| clock.ahead_ms as f64 / 1000.0);
        self.parts.metrics.clock_difference_seconds.set(differs_s);
        if let Some(WrongClock { node, .. }) = wrong
            && register.is_time_to_tell(heard.now)
        {
            drop(register);
            tracing::warn!(
                ahead_s = differs_s,
                "the clock of node {node} differs from this node's: tokens do not expire on time"
            );
        }
        news
    }

    /// The nodes that keep elsewhere what nodes share; tells the operator of each once.
    pub(crate) fn look_for_other_layouts(&self) -> Vec<String> {
        let mut register = self.register.lock();
        let nodes = register.of_other_layout(LAYOUT, Instant::now());
        let is_news = register.is_news(&nodes);
        drop(register);
        let count = i64::try_from(nodes.len()).unwrap_or(i64::MAX);
        self.parts.metrics.nodes_of_other_layout.set(count);
        if is_news {
            tracing::warn!(
                ?nodes,
                "nodes of another release keep histories, presence and revocations apart from \
                this node's: end them (see Upgrading in docs/operations.md)"
            );
        }
        nodes
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
            self.start_restoring();
        } else if matches!(turn, Turn::Lost) {
            tracing::warn!("the broker may have lost orders of the application");
            self.parts.node.forget_all();
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
        tokio::spawn(async move { control.say(Body::Alive(control.introduction())).await });
    }
}
