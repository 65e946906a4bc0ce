//! Revocations: kept in a channel, so that nodes that start later know them too. What the broker
//! loses of them the nodes that know write back.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use dunlin_core::{
    auth::revocation::{Revocations, RevokeError},
    broker::{HistoryQuery, Publish, ReplyTo, Terms},
    control::{self, Body, Introduction, Message, Order, REVOCATIONS_KEPT},
    error::{BrokerLost, ClientError, HistoryError},
    history::Since,
    position::Position,
    publication::{Kind, Publication},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{Control, listen::PAUSE};
use crate::clock::unix_now;

/// Revocations that are read, or written back, at once.
const PAGE: usize = 500;

/// How long a node that starts waits for others to say how many they know.
const NEIGHBOURS_WAIT: Duration = Duration::from_millis(100);

/// How long it waits for those that know more to write it back.
const RESTORE_WAIT: Duration = Duration::from_secs(4);

/// By how much later than the node before it a node starts to write back: it finds less to do.
const RESTORE_STEP: Duration = Duration::from_secs(1);

/// What the channel keeps.
struct Kept {
    top: Position,
    revoked: Revocations,
}

impl Control {
    /// Learns all that is revoked; as often as it takes.
    pub(super) async fn learn_revoked(&self) {
        while self.read_revoked().await.is_err() {
            sleep(PAUSE).await;
        }
        if self.parts.has_neighbours {
            self.wait_for_neighbours().await;
        }
        self.knows_revoked.store(true, Ordering::Release);
        self.say(Body::Alive(self.introduction())).await;
    }

    /// Waits until no node lives that keeps elsewhere what this one keeps, and until none knows of
    /// more revocations: the broker may have lost them.
    async fn wait_for_neighbours(&self) {
        // Those that hear of this node for the first time introduce themselves at once, and those
        // that know more write it back.
        let revoked = Some(self.revoked_count());
        self.say(Body::Alive(Introduction { revoked, ..self.introduction() })).await;
        sleep(NEIGHBOURS_WAIT).await;
        while !self.look_for_other_layouts().is_empty() && self.parts.keeps_anything {
            sleep(PAUSE).await;
        }
        let deadline = Instant::now() + RESTORE_WAIT;
        let lacks_some = || self.register.lock().revoked_max() > self.revoked_count();
        while lacks_some() && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
    }

    /// Writes back what this node knows and the broker has lost, in a task of its own.
    pub(super) fn start_restoring(self: &Arc<Self>) {
        let control = Arc::clone(self);
        tokio::spawn(async move {
            let _alone = control.restoring.lock().await;
            sleep(RESTORE_STEP * control.rank()).await;
            while control.restore_revoked().await.is_err() {
                sleep(PAUSE).await;
            }
        });
    }

    /// How many of the other nodes do first what one would be enough for.
    fn rank(&self) -> u32 {
        let others = self.register.lock().living(Instant::now());
        let before = others.iter().filter(|(node, _)| *node < self.id).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    async fn restore_revoked(&self) -> Result<(), HistoryError> {
        let kept = self.read_revoked().await?;
        let mut missing = self.parts.revocations.read().beyond(&kept.revoked);
        // In one order on all nodes, so that most of it is there when the next one reads.
        missing.sort_unstable();
        if !missing.is_empty() {
            tracing::warn!(count = missing.len(), "the broker lost revocations: writing them back");
        }
        for page in missing.chunks(PAGE) {
            let orders = page.iter().map(|revocation| Order::from(revocation.clone()));
            self.write_back(orders, kept.top).await?;
        }
        Ok(())
    }

    async fn write_back(
        &self,
        orders: impl Iterator<Item = Order>,
        top: Position,
    ) -> Result<(), BrokerLost> {
        let (mut publishes, mut outcomes) = (Vec::new(), Vec::new());
        for order in orders {
            // Other nodes write the same: the first counts.
            let idempotency_key = format!("{} {order:?}", top.epoch);
            let terms = Terms { idempotency_key, ..Terms::default() };
            let text = Bytes::from(self.message(Body::Order(order)).to_text());
            let publication = Publication::new(control::revoked(), Kind::Text, text);
            let (reply, outcome) = oneshot::channel();
            let (retention, terms) = (Some(REVOCATIONS_KEPT), Some(Box::new(terms)));
            let publish = Publish { publication, retention, terms };
            publishes.push((publish, ReplyTo::Caller(reply)));
            outcomes.push(outcome);
        }
        if let Some(room) = self.parts.node.publish_all(&mut publishes) {
            room.await;
        }
        for outcome in outcomes {
            outcome.await.map_err(|_| BrokerLost)?.map_err(|_| BrokerLost)?;
        }
        Ok(())
    }

    /// Learns what is kept, page by page, and has the clients ended that come by it.
    async fn read_revoked(&self) -> Result<Kept, HistoryError> {
        let channel = control::revoked();
        let mut revoked = Revocations::new(REVOCATIONS_KEPT.size);
        let (mut since, mut news) = (None, None);
        let top = loop {
            let query = HistoryQuery { since, limit: PAGE, is_reverse: false };
            let page = self.parts.node.history(&channel, query, REVOCATIONS_KEPT).await?;
            for order in page.publications.iter().filter_map(|publication| revocation(publication))
            {
                // What has no room there has none here either, which is told.
                let _ = note(&mut revoked, &order);
                if self.revoke(&order) {
                    news = Some(order);
                }
            }
            let end = page.publications.last().and_then(|publication| publication.position());
            match end.filter(|end| end.offset < page.top.offset) {
                Some(end) => since = Some(Since { offset: end.offset, epoch: None }),
                None => break page.top,
            }
        };
        // Whichever it is, it has the shards look for all clients that come by what is revoked.
        if let Some(order) = news {
            self.obey(order).await;
        }
        Ok(Kept { top, revoked })
    }

    /// Whoever revokes has to know when nothing comes of it.
    pub(super) fn check_room_for_revocations(&self) -> Result<(), ClientError> {
        match self.parts.revocations.write().has_room(unix_now()) {
            true => Ok(()),
            false => Err(ClientError::LimitExceeded),
        }
    }

    /// How many revocations are in force, as far as this node knows.
    pub(super) fn revoked_count(&self) -> usize {
        let mut revocations = self.parts.revocations.write();
        revocations.forget_expired(unix_now());
        revocations.len()
    }

    /// Notes a revocation; returns whether more is revoked than before.
    pub(super) fn revoke(&self, order: &Order) -> bool {
        let noted = note(&mut self.parts.revocations.write(), order);
        noted.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot revoke");
            false
        })
    }
}

fn revocation(publication: &Publication) -> Option<Order> {
    match Message::parse(publication.data()).ok()?.body {
        Body::Order(order) => Some(order),
        _ => None,
    }
}

fn note(revocations: &mut Revocations, order: &Order) -> Result<bool, RevokeError> {
    let now = unix_now();
    match order {
        Order::RevokeToken { id, until } => revocations.revoke_token(id, *until, now),
        Order::RevokeUser { user, issued_before, until } => {
            revocations.revoke_user(user, *issued_before, *until, now)
        }
        _ => Ok(false),
    }
}
