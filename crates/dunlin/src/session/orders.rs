//! What the application orders of clients, wherever they are.

use std::{ops::Range, rc::Rc};

use dunlin_core::{
    control::{Order, Whom},
    error::Disconnect,
    session::Input,
};
use dunlin_ws::CloseCode;
use tokio::task::{spawn_local, yield_now};

use crate::{connection::Connection, shard::Shard};

/// "Connection closed": what clients call it when a socket just ends, after which they come again.
/// The protocol has no close frame of it.
const UNTOLD: u32 = 3000;

/// Connections that are looked at in one go, about a tenth of a millisecond.
const LOOKED_AT: u32 = 2048;

impl Shard {
    /// Obeys an order for those of its clients that are meant; none is no error. Every shard of
    /// every node gets every order once, in the order in which the broker put them.
    ///
    /// Clients of the plain dialect have no user and are meant by none.
    pub(crate) fn obey_control(self: &Rc<Self>, order: &Order) {
        match order {
            Order::Disconnect(control) => self.obey_for(&control.whom, order),
            Order::Unsubscribe(control) => self.obey_for(&control.whom, order),
            Order::Subscribe(control) => self.obey_for(&control.whom, order),
            Order::Refresh(control) => self.obey_for(&control.whom, order),
            Order::RevokeToken { .. } | Order::RevokeUser { .. } => self.end_revoked(),
            // It is about no client.
            Order::ForgetHistory { .. } => {}
        }
        self.flush_replies();
    }

    fn obey_for(self: &Rc<Self>, whom: &Whom, order: &Order) {
        let slots: Vec<u32> = self.users().of(&whom.user).collect();
        for connection in slots.into_iter().filter_map(|slot| self.connection_at(slot)) {
            self.tell_session(&connection, Input::Order(order));
        }
    }

    /// Ends every client, and every subscription, whose token does not count any more. Everybody
    /// is looked at, so others have their turn in between; who comes meanwhile is checked as it
    /// comes.
    fn end_revoked(self: &Rc<Self>) {
        let shard = Rc::clone(self);
        spawn_local(async move {
            let mut slots = 0..shard.slot_count();
            while !slots.is_empty() {
                let some = slots.start..slots.end.min(slots.start + LOOKED_AT);
                slots.start = some.end;
                shard.end_revoked_among(some);
                yield_now().await;
            }
        });
    }

    fn end_revoked_among(self: &Rc<Self>, slots: Range<u32>) {
        let revocations = self.policy().revocations();
        for connection in slots.filter_map(|slot| self.connection_at(slot)) {
            self.tell_session(&connection, Input::Revoked(&revocations));
        }
        drop(revocations);
        self.flush_replies();
    }

    /// Ends a connection in the application's words; by [`UNTOLD`] without a close frame.
    pub(super) fn end_by_order(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        code: u32,
        reason: &str,
    ) {
        if code == UNTOLD {
            return self.remove(connection, Disconnect::Forced);
        }
        let code = u16::try_from(code).ok().and_then(CloseCode::new);
        let frame = code.map(|code| dunlin_ws::close_frame(code, reason));
        let frame = frame.unwrap_or_else(|| self.close_frame(connection, Disconnect::Forced));
        self.end_with(connection, Disconnect::Forced, frame);
    }
}
