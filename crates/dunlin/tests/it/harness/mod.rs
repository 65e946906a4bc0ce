//! What the tests of running nodes share: real nodes, a real Redis, clients on plain sockets.
//! Everything that is started here ends when its value is dropped.

mod api;
mod browser;
mod centrifuge;
mod client;
mod flock;
mod http;
mod load;
mod node;
mod redis;
mod session;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    api::{KEY, KEY_SETTING},
    browser::{Browser, Page},
    centrifuge::{A_LITTLE, CentrifugeClient, SECRET_SETTING, token, unix_time},
    client::{Client, Message, Opcode, frame},
    flock::Flock,
    http::{
        Response, UPGRADE_HEADERS, connect, connect_from, connect_with_little_room, exchange, get,
        read_response, upgrade_request,
    },
    load::{Listener, check, publish},
    node::{Node, NodeCommand},
    redis::Redis,
    session::Session,
};

/// Longer than anything takes on a machine that is busy with other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Polls until `holds`; the test fails when that takes longer than [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        // Polls up to a deadline: what is waited for tells nobody.
        thread::sleep(Duration::from_millis(5));
    }
}
