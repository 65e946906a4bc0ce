//! What a client is told, gathered so that what belongs together leaves in one message and one
//! write.

use std::rc::Rc;

use bytes::Bytes;
use dunlin_core::{error::Disconnect, event::Event, publication::Encoding};
use dunlin_protocol::centrifuge;

use crate::{
    backlog::Cause,
    connection::{Connection, Written},
    shard::Shard,
};

impl Shard {
    /// Tells a client something, at the latest with [`Shard::flush_replies`].
    pub(super) fn tell(&self, connection: &Rc<Connection>, event: &Event) {
        let Some(dialogue) = connection.dialogue() else { return };
        let mut replies = dialogue.replies().borrow_mut();
        if replies.is_empty() {
            self.talkative().push(Rc::clone(connection));
        }
        connection.record_told(event);
        let encoding = dialogue.session().borrow().encoding();
        centrifuge::write_event(encoding, event, &mut replies);
    }

    /// Writes an event before everything that was held back, and holds back nothing more.
    pub(super) fn tell_first(self: &Rc<Self>, connection: &Rc<Connection>, event: &Event) {
        let Some(session) = connection.session() else { return };
        connection.record_told(event);
        let encoding = session.borrow().encoding();
        let mut message = Vec::new();
        centrifuge::write_event(encoding, event, &mut message);
        let frame = self.frame(connection, encoding, &message);
        if self.write_first(connection, &frame) == Written::Overrun {
            self.end(connection, Disconnect::SlowReader);
        }
    }

    /// Writes what has been gathered for all clients: one message for each.
    pub(crate) fn flush_replies(self: &Rc<Self>) {
        loop {
            // On a line of its own: a write can end a connection, and that can tell others.
            let next = self.talkative().pop();
            let Some(connection) = next else { break };
            if self.flush(&connection) == Written::Overrun {
                self.end(&connection, Disconnect::SlowReader);
            }
        }
        self.bound_debts();
    }

    fn flush(self: &Rc<Self>, connection: &Rc<Connection>) -> Written {
        let Some(dialogue) = connection.dialogue() else { return Written::Taken };
        let replies = dialogue.replies().take();
        // Nothing follows a close frame.
        if replies.is_empty() || connection.ending().is_some() {
            return Written::Taken;
        }
        let encoding = dialogue.session().borrow().encoding();
        let frame = self.frame(connection, encoding, &replies);
        self.write(connection, &frame, Cause::Asked)
    }

    fn frame(&self, connection: &Connection, encoding: Encoding, message: &[u8]) -> Bytes {
        let is_deflated = connection.compression().may_send();
        self.encoder().message(centrifuge::message_kind(encoding), message, is_deflated)
    }
}
