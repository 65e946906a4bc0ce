//! Revocations: kept in a channel, so that nodes that start later know them too.

use dunlin_core::{
    broker::HistoryQuery,
    control::{self, Body, Message, Order, REVOCATIONS_KEPT},
    error::{ClientError, HistoryError},
    history::Since,
    publication::Publication,
};
use tokio::time::sleep;

use super::{Control, listen::PAUSE};
use crate::clock::unix_ms;

/// Revocations that are read at once.
const PAGE: usize = 500;

impl Control {
    /// Learns all that is revoked, as often as it takes, and has the clients ended that come by it.
    pub(super) async fn learn_revoked(&self) {
        loop {
            match self.read_revoked().await {
                Ok(None) => return,
                Ok(Some(last)) => return self.obey(last).await,
                Err(_broker_lost) => sleep(PAUSE).await,
            }
        }
    }

    /// Reads page by page; returns the last revocation.
    async fn read_revoked(&self) -> Result<Option<Order>, HistoryError> {
        let channel = control::revoked();
        let mut last = None;
        let mut since = None;
        loop {
            let query = HistoryQuery { since, limit: PAGE, is_reverse: false };
            let page = self.parts.node.history(&channel, query, REVOCATIONS_KEPT).await?;
            for publication in &page.publications {
                last = self.revocation(publication).or(last);
            }
            let end = page.publications.last().and_then(|publication| publication.position());
            let Some(end) = end.filter(|end| end.offset < page.top.offset) else {
                return Ok(last);
            };
            since = Some(Since { offset: end.offset, epoch: None });
        }
    }

    fn revocation(&self, publication: &Publication) -> Option<Order> {
        let message = Message::parse(publication.data()).ok()?;
        let Body::Order(order) = message.body else { return None };
        self.revoke(&order);
        Some(order)
    }

    /// Whoever revokes has to know when nothing comes of it.
    pub(super) fn check_room_for_revocations(&self) -> Result<(), ClientError> {
        match self.parts.revocations.write().has_room(unix_ms() / 1000) {
            true => Ok(()),
            false => Err(ClientError::LimitExceeded),
        }
    }

    /// Notes a revocation. What is revoked twice is revoked.
    pub(super) fn revoke(&self, order: &Order) {
        let now = unix_ms() / 1000;
        let mut revocations = self.parts.revocations.write();
        let noted = match order {
            Order::RevokeToken { id, until } => revocations.revoke_token(id, *until, now),
            Order::RevokeUser { user, issued_before, until } => {
                revocations.revoke_user(user, *issued_before, *until, now)
            }
            _ => Ok(()),
        };
        if let Err(error) = noted {
            tracing::error!(%error, "cannot revoke");
        }
    }
}
