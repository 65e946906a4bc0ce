//! What a client is told, gathered so that what belongs together leaves in one message and one
//! write.

use std::rc::Rc;

use dunlin_core::{
    error::{ClientError, Disconnect},
    event::{Event, Outcome},
};
use dunlin_protocol::centrifuge;

use crate::{
    connection::{Connection, Written},
    shard::Shard,
};

impl Shard {
    /// Answers a command. A command with the number 0 wants no answer.
    pub(super) fn reply(
        &self,
        connection: &Rc<Connection>,
        id: u32,
        outcome: Result<Outcome, ClientError>,
    ) {
        if id != 0 {
            self.tell(connection, &Event::Reply { id, outcome });
        }
    }

    /// Tells a client something, at the latest with [`Shard::flush_replies`].
    pub(super) fn tell(&self, connection: &Rc<Connection>, event: &Event) {
        let Some(session) = connection.session() else { return };
        let mut session = session.borrow_mut();
        if session.replies.is_empty() {
            self.talkative().push(Rc::clone(connection));
        }
        let encoding = session.encoding;
        centrifuge::write_event(encoding, event, &mut session.replies);
    }

    /// Writes what has been gathered for all clients: one message for each.
    pub(crate) fn flush_replies(self: &Rc<Self>) {
        loop {
            // On a line of its own: a write can end a connection, and that can tell others.
            let next = self.talkative().pop();
            let Some(connection) = next else { return };
            if self.flush(&connection) == Written::Overrun {
                self.end(&connection, Disconnect::SlowReader);
            }
        }
    }

    fn flush(self: &Rc<Self>, connection: &Rc<Connection>) -> Written {
        let Some(session) = connection.session() else { return Written::Taken };
        let replies = std::mem::take(&mut session.borrow_mut().replies);
        // Nothing follows a close frame.
        if replies.is_empty() || connection.ending().is_some() {
            return Written::Taken;
        }
        let kind = centrifuge::message_kind(session.borrow().encoding);
        let is_deflated = connection.compression().may_send();
        let frame = self.encoder().message(kind, &replies, is_deflated);
        self.write(connection, &frame)
    }
}
