//! A shard: one thread that owns its connections for their whole life.
//!
//! Its state is plain `!Send` data behind cells, so that reader tasks, the fan-out and the sweep
//! share it without locks. No borrow of a cell is held across an await.

mod census;
mod control;
mod deliver;
mod orders;
mod place;
mod sweep;
mod tally;

use std::{
    cell::{Cell, RefCell, RefMut},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use dunlin_core::{
    broker::Publish,
    channel::ChannelName,
    error::{BrokerLost, Disconnect},
    hub::{Company, Hub, Manner},
    ids::{ConnectionId, ShardId},
    inbox::Inbox,
    interest::Wish,
    limits::Limits,
    metrics::{Ledger, Metrics},
    node::Node,
    publication::Format,
};
use dunlin_protocol::encoder::Encoder;
use dunlin_ws::Compression;
use slab::Slab;
use tokio::{sync::Notify, time::Instant};

use self::tally::Tally;
pub(crate) use self::{
    census::Census,
    orders::{NoSeat, Seat, ShardHandle, spawn},
    place::{Place, Places},
};
use crate::connection::Connection;

/// What a shard is made of; everything in it can cross to the shard's thread.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) id: ShardId,
    pub(crate) node: Arc<Node>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Limits,
    /// Time between pings of a connection; zero = none.
    pub(crate) ping_interval: Duration,
    /// Longest time from a ping to a sign of life.
    pub(crate) pong_timeout: Duration,
    /// Longest time a seat waits for its socket.
    pub(crate) seat_age: Duration,
}

/// The state of a shard, on its thread.
pub(crate) struct Shard {
    parts: Parts,
    started_at: Instant,
    connections: RefCell<Slab<Rc<Connection>>>,
    /// Connections made so far; tells apart those that used a slot one after another.
    generation: Cell<u32>,
    hub: RefCell<Hub>,
    read_buffer: RefCell<Box<[u8]>>,
    decoding: RefCell<dunlin_ws::Context>,
    publishes: RefCell<Vec<Publish>>,
    encoder: Encoder,
    tally: Tally,
    /// Whether the node closes its connections: there are no more seats, and who has one already is
    /// closed as soon as it has its socket.
    is_leaving: Cell<bool>,
    removed: Notify,
}

/// As much as one read takes.
const READ_BUFFER_BYTES: usize = 64 * 1024;

impl Shard {
    fn new(parts: Parts) -> Self {
        let decoding = dunlin_ws::Context::new(dunlin_ws::Limits {
            message_bytes: parts.limits.message_bytes,
            message_fragments: parts.limits.message_fragments,
            ..dunlin_ws::Limits::default()
        });
        Self {
            started_at: Instant::now(),
            connections: RefCell::default(),
            generation: Cell::new(0),
            hub: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into()),
            decoding: RefCell::new(decoding),
            publishes: RefCell::default(),
            encoder: Encoder::default(),
            tally: Tally::new(parts.metrics.clone()),
            is_leaving: Cell::new(false),
            removed: Notify::new(),
            parts,
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.parts.node
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The buffer that every read of this shard goes through.
    pub(crate) fn read_buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.read_buffer.borrow_mut()
    }

    /// What decoding needs once per shard.
    pub(crate) fn decoding(&self) -> RefMut<'_, dunlin_ws::Context> {
        self.decoding.borrow_mut()
    }

    /// Where a reader gathers what one read publishes; empty before and after.
    pub(crate) fn publishes(&self) -> RefMut<'_, Vec<Publish>> {
        self.publishes.borrow_mut()
    }

    /// Milliseconds since the shard began; wraps after seven weeks, which a token bucket survives.
    pub(crate) fn uptime_ms(&self) -> u32 {
        self.started_at.elapsed().as_millis() as u32
    }

    /// Makes a seat and subscribes it. Its deliveries wait in its backlog until it has a socket.
    fn reserve(
        &self,
        channel: &ChannelName,
        compression: Compression,
        place: Place,
    ) -> (ConnectionId, Result<Wish, BrokerLost>) {
        self.generation.set(self.generation.get().wrapping_add(1));
        let mut connections = self.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("limits.connections is below 2^32");
        let id = ConnectionId { shard: self.parts.id, slot, generation: self.generation.get() };
        let format = match compression.may_send() {
            true => Format::PLAIN_DEFLATED,
            false => Format::PLAIN,
        };
        let mut hub = self.hub.borrow_mut();
        let (subscription, _) = hub.subscribe(channel, &Manner::all(format), slot);
        let channel = hub.channel(subscription).clone();
        let wish = self.parts.node.join(&channel, self.parts.id);
        let connection = Connection::seat(id, channel, compression, place);
        connection.subscription().set(Some(subscription));
        entry.insert(Rc::new(connection));
        (id, wish)
    }

    /// Ends a connection after it got what is in the inbox now, such as its own last publishes.
    pub(crate) fn end_after_turn(&self, id: ConnectionId, why: Disconnect, close_frame: Bytes) {
        self.parts.inbox.push_end(id, why, close_frame);
    }

    fn connection(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        connections.get(id.slot as usize).filter(|connection| connection.id() == id).cloned()
    }

    /// Ends the connection's subscription; it gets no more publications.
    pub(crate) fn unsubscribe(&self, connection: &Connection) {
        let Some(subscription) = connection.subscription().take() else { return };
        let mut hub = self.hub.borrow_mut();
        let (channel, company) = hub.unsubscribe(subscription);
        if company == Company::Alone {
            self.parts.node.leave(&channel, self.parts.id, std::time::Instant::now());
        }
        self.parts.ledger.subscriptions(hub.subscription_count());
    }

    /// Forgets a connection and drops its socket. Does nothing when it is forgotten already.
    pub(crate) fn remove(&self, connection: &Rc<Connection>, why: Disconnect) {
        let id = connection.id();
        if self.connection(id).is_none() {
            return;
        }
        self.unsubscribe(connection);
        self.connections.borrow_mut().remove(id.slot as usize);
        self.tally.dropped(connection.abandon().bytes());
        if connection.stream().is_some() {
            self.parts.ledger.close(why);
        }
        self.removed.notify_one();
    }
}
