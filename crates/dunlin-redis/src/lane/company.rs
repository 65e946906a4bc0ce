//! The company of a node: the other nodes at a lane's server. An address may come to lead one node
//! to another server, which is well, and where nobody else is: what is published there would be
//! acknowledged and reach no other node. So who finds another server at an address than before
//! waits until as many nodes have come there as were at the last one. Where sentinels or a cluster
//! say which server it is, they agree on it themselves.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    keys::Keys,
    link::{
        command,
        connection::Connection,
        error::{LinkError, tells_not_ready},
        greeting::reply,
        value::Value,
    },
    partition::Partition,
    script::{self, Call},
};

/// See the module's text.
pub(crate) struct Company {
    address: Arc<str>,
    keys: Keys,
    node: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many others were there last.
    others: u64,
    /// Where the node is that waits for them, and since when.
    waits: Option<(u32, Instant)>,
}

impl Company {
    /// That of `node` at the server at `address`.
    pub(crate) fn new(address: Arc<str>, keys: Keys, node: String) -> Self {
        Self { address, keys, node, state: Mutex::default() }
    }

    /// What the node is called there.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// The key of the nodes at a server. What a replica has of its primary's is under another one.
    pub(crate) fn key(&self, reign: u32) -> Bytes {
        self.keys.company(Partition::FIRST, reign)
    }

    /// Notes how many nodes are at the lane's server, this one among them.
    pub(crate) fn note(&self, nodes: u64) {
        *self.state.lock() = State { others: nodes.saturating_sub(1), waits: None };
    }

    /// Goes to the server of a new connection, when the lane's is that of reign `known`.
    ///
    /// # Errors
    /// When the others have not come, or the connection is lost.
    pub(crate) async fn meet(
        &self,
        connection: &mut Connection,
        known: u32,
    ) -> Result<(), LinkError> {
        let reign = connection.server.reign;
        if [0, known].contains(&reign) {
            return Ok(());
        }
        script::COMPANY.write_call(&mut connection.out, Call::ByText, 1, 1);
        command::write_argument(&mut connection.out, &[&self.key(reign)]);
        command::write_argument(&mut connection.out, &[self.node.as_bytes()]);
        connection.expect(1);
        match reply(connection).await? {
            Value::Integer(nodes) => self.judge(reign, nodes.unsigned_abs(), Instant::now()),
            Value::Error(text) if tells_not_ready(&text) => {
                Err(LinkError::NotReady(String::from_utf8_lossy(&text).into_owned()))
            }
            // Who may not write here publishes nothing here, as the probe will tell.
            _ => Ok(()),
        }
    }

    fn judge(&self, reign: u32, nodes: u64, now: Instant) -> Result<(), LinkError> {
        let mut state = self.state.lock();
        let missing = (state.others + 1).saturating_sub(nodes);
        if missing == 0 {
            return Ok(());
        }
        let since = match state.waits {
            Some((there, since)) if there == reign => since,
            _ => now,
        };
        state.waits = Some((reign, since));
        if now - since < PATIENCE {
            return Err(LinkError::Alone { missing });
        }
        tracing::warn!(
            address = %self.address,
            "goes on at another redis server without {missing} of the nodes that were at the last \
            one: if they live, the address leads them elsewhere, and clients get no messages of \
            theirs"
        );
        Ok(())
    }
}

/// How long the others are waited for: they may have died with the last server.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn company(nodes: u64) -> Company {
        let company = Company::new("redis://here".into(), Keys::new("dunlin:"), "n".to_owned());
        company.note(nodes);
        company
    }

    fn missing(company: &Company, reign: u32, nodes: u64, now: Instant) -> Option<u64> {
        match company.judge(reign, nodes, now) {
            Ok(()) => None,
            Err(LinkError::Alone { missing }) => Some(missing),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_node_goes_where_the_others_are() {
        let (now, company) = (Instant::now(), company(3));
        assert_eq!(missing(&company, 8, 1, now), Some(2));
        assert_eq!(missing(&company, 8, 2, now), Some(1));
        assert_eq!(missing(&company, 8, 3, now), None);
        assert_eq!(missing(&company, 8, 4, now), None, "more are welcome");
    }

    #[test]
    fn a_node_that_was_alone_goes_anywhere() {
        let now = Instant::now();
        assert_eq!(missing(&company(1), 8, 1, now), None);
        assert_eq!(missing(&company(0), 8, 1, now), None, "it never heard of any");
    }

    #[test]
    fn those_who_never_come_are_waited_for_at_each_server_anew() {
        let (now, company) = (Instant::now(), company(2));
        assert_eq!(missing(&company, 8, 1, now), Some(1));
        assert_eq!(missing(&company, 8, 1, now + PATIENCE / 2), Some(1));
        assert_eq!(missing(&company, 9, 1, now + PATIENCE), Some(1));
        assert_eq!(missing(&company, 9, 1, now + PATIENCE * 2), None);
    }
}
