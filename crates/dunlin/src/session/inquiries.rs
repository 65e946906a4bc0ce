//! What sessions have to find out: at once where the shard knows it, by a task otherwise.

use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll};

use dunlin_core::{
    auth::TokenError,
    error::{ClientError, Disconnect},
    event::{HistoryPage, Outcome},
    ids::ConnectionId,
    limits::Scope,
    node::Node,
    session::{Answer, Input, Inquiry, Ticket},
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::task::{spawn_blocking, spawn_local};

use crate::{
    connection::Connection,
    shard::{Shard, Users},
};

/// Counts an inquiry until it is dropped.
struct UnderWay(Gauge);

impl UnderWay {
    fn begin(count: &Gauge) -> Self {
        count.inc();
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Shard {
    /// Brings a session the answer, now or later.
    ///
    /// # Errors
    /// Why the client is to be closed, by an answer that is there at once.
    pub(super) fn inquire(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        ticket: Ticket,
        inquiry: Inquiry,
    ) -> Result<(), Disconnect> {
        if let Some(answer) = self.unchecked(connection, &inquiry) {
            return self.handle(connection, Input::Answer(ticket, answer));
        }
        if self.policy().is_slow(&inquiry) {
            self.check_aside(connection, ticket, inquiry);
            return Ok(());
        }
        let answer = match &inquiry {
            Inquiry::Admission(user) => Some(Answer::Admission(self.admit(connection, user))),
            token => self.policy().check(token),
        };
        let Some(answer) = answer else {
            self.ask_node(connection, ticket, inquiry);
            return Ok(());
        };
        note_if_bad(connection, &answer);
        self.handle(connection, Input::Answer(ticket, answer))
    }

    /// The answer to a token that is not looked at: too many came from its address that were none.
    fn unchecked(&self, connection: &Connection, inquiry: &Inquiry) -> Option<Answer> {
        let answer = match inquiry {
            Inquiry::ConnectionToken(_) => Answer::Connection(Err(TokenError::NotChecked)),
            Inquiry::SubscriptionToken(_) => Answer::Subscription(Err(TokenError::NotChecked)),
            _ => return None,
        };
        if connection.stream()?.place()?.may_try_token() {
            return None;
        }
        self.metrics().count_limited("bad_tokens", Scope::Address);
        Some(answer)
    }

    /// Has a token checked by the shard's other thread. A client has one check under way at a time,
    /// so clients take turns.
    fn check_aside(self: &Rc<Self>, connection: &Connection, ticket: Ticket, inquiry: Inquiry) {
        let (shard, id, policy) = (Rc::clone(self), connection.id(), self.shared_policy());
        let under_way = UnderWay::begin(&self.metrics().inquiries);
        spawn_local(async move {
            let _under_way = under_way;
            let answer = spawn_blocking(move || policy.check(&inquiry)).await;
            let Some(connection) = shard.connection(id) else { return };
            match answer {
                Ok(Some(answer)) => {
                    let answer = shard.policy().check_again(answer);
                    note_if_bad(&connection, &answer);
                    shard.tell_session(&connection, Input::Answer(ticket, answer));
                }
                // A bug of ours.
                Ok(None) | Err(_) => shard.end(&connection, Disconnect::Internal),
            }
            shard.flush_replies();
        });
    }

    fn ask_node(self: &Rc<Self>, connection: &Rc<Connection>, ticket: Ticket, inquiry: Inquiry) {
        let (shard, id) = (Rc::clone(self), connection.id());
        let under_way = UnderWay::begin(&self.metrics().inquiries);
        spawn_local(async move {
            let _under_way = under_way;
            // An answer that nobody reads is not asked for, nor given.
            shard.until_read(id).await;
            let mut turn = shard.queue().turn().await;
            let mut asking = pin!(answer(shard.shared_node(), inquiry));
            // What is in memory is looked up in this turn, what is not is waited for outside.
            let outcome = match poll_fn(|task| Poll::Ready(asking.as_mut().poll(task))).await {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    shard.queue().end(turn).await;
                    let outcome = asking.await;
                    shard.until_read(id).await;
                    turn = shard.queue().turn().await;
                    outcome
                }
            };
            if let Some(connection) = shard.connection(id) {
                let input = Input::Answer(ticket, Answer::Outcome(outcome));
                shard.tell_session(&connection, input);
                shard.flush_replies();
            }
            shard.queue().end(turn).await;
        });
    }

    /// Waits until a client has read what it got before, or is gone.
    pub(super) async fn until_read(&self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.read().await;
        }
    }

    /// Counts one more connection of a user, and names its client; not, when the user has as many
    /// as it may have.
    fn admit(&self, connection: &Connection, user: &Arc<str>) -> Option<Arc<str>> {
        let max = self.policy().user_connections_max;
        if self.is_counted(user) && !self.user_counts().enter(user, max) {
            return None;
        }
        self.change_users(|users| users.add(user, connection.id().slot));
        Some(client_id())
    }

    /// A user has one connection less.
    pub(super) fn dismiss(&self, connection: &Connection, user: &str) {
        self.change_users(|users| users.remove(user, connection.id().slot));
        if self.is_counted(user) {
            self.user_counts().leave(user);
        }
    }

    fn change_users(&self, change: impl FnOnce(&mut Users)) {
        let mut users = self.users();
        let before = users.count() as i64;
        change(&mut users);
        self.metrics().users.inc_by(users.count() as i64 - before);
    }

    /// Whether there is a bound to this user's connections.
    fn is_counted(&self, user: &str) -> bool {
        self.policy().user_connections_max > 0 && !user.is_empty()
    }
}

/// Counts a token that is none for the address that it came from.
fn note_if_bad(connection: &Connection, answer: &Answer) {
    let (Answer::Connection(Err(error)) | Answer::Subscription(Err(error))) = answer else {
        return;
    };
    if matches!(error, TokenError::Invalid(_) | TokenError::TooLarge)
        && let Some(place) = connection.stream().and_then(|stream| stream.place())
    {
        place.note_bad_token();
    }
}

/// What a broker or a presence store knows.
async fn answer(node: Arc<Node>, inquiry: Inquiry) -> Result<Outcome, ClientError> {
    match inquiry {
        // The protocol has no word for more than the first.
        Inquiry::Presence(channel) => {
            Ok(Outcome::Presence(node.presence().members(&channel).await?.first))
        }
        Inquiry::PresenceStats(channel) => {
            Ok(Outcome::PresenceStats(node.presence().stats(&channel).await?))
        }
        Inquiry::History(channel, query, retention) => {
            let history = node.history(&channel, query, retention).await?;
            let page = HistoryPage { publications: history.publications, top: history.top };
            Ok(Outcome::History(Box::new(page)))
        }
        // These need no broker.
        Inquiry::ConnectionToken(_) | Inquiry::SubscriptionToken(_) | Inquiry::Admission(_) => {
            Err(ClientError::Internal)
        }
    }
}

/// A random id in the form of RFC 9562, version 4.
fn client_id() -> Arc<str> {
    let bits = fastrand::u128(..);
    let (a, b) = ((bits >> 96) as u32, (bits >> 80) as u16);
    let (c, d) = ((bits >> 64) as u16 & 0x0FFF | 0x4000, (bits >> 48) as u16 & 0x3FFF | 0x8000);
    let e = bits as u64 & 0xFFFF_FFFF_FFFF;
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}").into()
}
