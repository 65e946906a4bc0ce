//! What the application orders of clients, wherever they are.

use std::rc::Rc;

use dunlin_core::{
    control::{self, Order, Whom},
    error::Disconnect,
    event::Unsubscribe,
};
use dunlin_ws::CloseCode;

use super::subscription::Answer;
use crate::{clock::unix_now, connection::Connection, shard::Shard};

impl Shard {
    /// Obeys an order for those of its clients that are meant; none is no error. Every shard of
    /// every node gets every order once, in the order in which the broker put them.
    ///
    /// Clients of the plain dialect have no user and are meant by none.
    pub(crate) fn obey_control(self: &Rc<Self>, order: &Order) {
        match order {
            Order::Disconnect(order) => self.disconnect(order),
            Order::Unsubscribe(order) => self.unsubscribe_all(order),
            Order::Subscribe(order) => self.subscribe_all(order),
            Order::Refresh(order) => self.refresh_all(order),
            Order::RevokeToken { .. } | Order::RevokeUser { .. } => self.end_revoked(),
            // It is about no client.
            Order::ForgetHistory { .. } => {}
        }
        self.flush_replies();
    }

    fn meant(&self, whom: &Whom) -> Vec<Rc<Connection>> {
        let users = self.users();
        let connections = users.of(&whom.user).filter_map(|slot| self.connection_at(slot));
        let is_meant = |connection: &Rc<Connection>| {
            let session = connection.session().map(|session| session.borrow());
            session.is_some_and(|s| whom.includes(s.user(), s.client()))
        };
        connections.filter(is_meant).collect()
    }

    fn disconnect(self: &Rc<Self>, order: &control::Disconnect) {
        for connection in self.meant(&order.whom) {
            let client = connection.session().map(|s| s.borrow().client().clone());
            let user = &order.whom.user;
            if client.is_some_and(|client| order.includes(user, &client)) {
                let code = u16::try_from(order.code).ok().and_then(CloseCode::new);
                let frame = code.map(|code| dunlin_ws::close_frame(code, &order.reason));
                let frame = frame.unwrap_or_else(|| connection.close_frame(Disconnect::Forced));
                self.end_with(&connection, Disconnect::Forced, frame);
            }
        }
    }

    fn unsubscribe_all(self: &Rc<Self>, order: &control::Unsubscribe) {
        for connection in self.meant(&order.whom) {
            let Some(session) = connection.session() else { continue };
            let is_meant = |name: &_| order.channel.as_ref().is_none_or(|only| only == name);
            let channels: Vec<_> = {
                let session = session.borrow();
                let names = session.subscriptions().iter().map(|s| &s.channel);
                names.filter(|name| is_meant(name)).cloned().collect()
            };
            for channel in channels {
                self.unsubscribe(&connection, &channel, Unsubscribe::Server);
            }
        }
    }

    fn subscribe_all(self: &Rc<Self>, order: &control::Subscribe) {
        for connection in self.meant(&order.whom) {
            let Some(session) = connection.session() else { continue };
            let is_subscribed = session.borrow().subscription(&order.channel).is_some();
            let count = session.borrow().subscriptions().len();
            if !session.borrow().is_connected()
                || is_subscribed
                || count >= self.policy().channels_max
            {
                continue;
            }
            let resume = order.recover_since.as_ref();
            let user = &order.whom.user;
            let wanted = self.server_side_subscription(
                &order.channel,
                &order.options,
                resume,
                user,
                Answer::Push,
            );
            let Ok(mut wanted) = wanted else { continue };
            wanted.subscription.expire_at = order.expire_at;
            self.join(&connection, wanted);
        }
    }

    fn refresh_all(self: &Rc<Self>, order: &control::Refresh) {
        for connection in self.meant(&order.whom) {
            if order.expired || order.expire_at.is_some_and(|at| at <= unix_now()) {
                self.end(&connection, Disconnect::Expired);
                continue;
            }
            if let Some(session) = connection.session() {
                let identity = &mut session.borrow_mut().identity;
                identity.expire_at = order.expire_at;
                identity.info = order.info.clone().or(identity.info.take());
            }
            self.set_wake(&connection);
        }
    }

    /// Ends every client, and every subscription, whose token does not count any more.
    fn end_revoked(self: &Rc<Self>) {
        for connection in self.everyone() {
            let Some(session) = connection.session() else { continue };
            let (is_revoked, channels) = {
                let session = session.borrow();
                let (user, policy) = (session.user(), self.policy());
                let subscriptions = session.subscriptions().iter().filter(|subscription| {
                    let token = subscription.token.as_ref();
                    token.is_some_and(|token| policy.is_revoked(user, token))
                });
                let channels: Vec<_> = subscriptions.map(|s| s.channel.clone()).collect();
                (policy.is_revoked(user, &session.identity.token), channels)
            };
            if is_revoked {
                self.end(&connection, Disconnect::InvalidToken);
                continue;
            }
            for channel in channels {
                self.unsubscribe(&connection, &channel, Unsubscribe::Server);
            }
        }
    }
}
