//! A shard: one thread that owns its connections for their whole life.
//!
//! Its state is plain `!Send` data behind cells, so that reader tasks, the fan-out and the sweep
//! share it without locks. No borrow of a cell is held across an await.

mod census;
mod debts;
mod decoding;
mod deliver;
mod orders;
mod outbox;
mod parts;
mod place;
mod pressure;
mod share;
mod sweep;
mod tally;
mod users;

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::{BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName,
    error::{BrokerLost, Disconnect},
    hub::{Hub, Manner},
    ids::{ConnectionId, ShardId},
    interest::Wish,
    limits::Limits,
    metrics::Metrics,
    namespace::ChannelOptions,
    node::Node,
    publication::Format,
    session::{Effects, Input, Session},
};
use dunlin_protocol::encoder::Encoder;
use dunlin_ws::Compression;
use slab::Slab;
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::{
    census::Census,
    orders::{Arrival, Newcomer, NoSeat, Seat, ShardHandle, spawn},
    outbox::Brake,
    parts::Parts,
    place::{Place, Places},
    pressure::Pressure,
    share::{Queue, Share, Slice},
    users::{UserCounts, Users},
};
use self::{debts::Debts, decoding::Decoding, outbox::Outbox, tally::Tally};
use crate::{
    config::PlainCloseCodes,
    connection::{Client, Closes, Connection, Dialogue, Listener},
    memory::Memory,
    metering::Paces,
    session::Policy,
};

/// The state of a shard, on its thread.
pub(crate) struct Shard {
    parts: Parts,
    started_at: Instant,
    connections: RefCell<Slab<Rc<Connection>>>,
    /// How many of them have no socket yet.
    seats: Cell<usize>,
    /// Connections made so far; tells apart those that used a slot one after another.
    generation: Cell<u32>,
    hub: RefCell<Hub>,
    users: RefCell<Users>,
    /// How many are about to be subscribed to a channel.
    joins: RefCell<HashMap<ChannelName, u32>>,
    /// When sessions have to be looked at, by slot.
    alarms: RefCell<BTreeSet<(Instant, u32)>>,
    /// Those who have been told something that is not written yet.
    talkative: RefCell<Vec<Rc<Connection>>>,
    debts: Debts,
    read_buffer: RefCell<Box<[u8]>>,
    decoding: Decoding,
    outbox: Outbox,
    /// Empty, for the next session that decides something.
    effects: Cell<Effects>,
    queue: Queue,
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
        Self {
            started_at: Instant::now(),
            connections: RefCell::default(),
            seats: Cell::new(0),
            generation: Cell::new(0),
            hub: RefCell::default(),
            users: RefCell::default(),
            joins: RefCell::default(),
            alarms: RefCell::default(),
            talkative: RefCell::default(),
            debts: Debts::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into()),
            decoding: Decoding::new(&parts.limits),
            outbox: Outbox::default(),
            effects: Cell::default(),
            queue: Queue::new(),
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

    pub(crate) fn shared_node(&self) -> Arc<Node> {
        Arc::clone(&self.parts.node)
    }

    pub(crate) fn id(&self) -> ShardId {
        self.parts.id
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.parts.shard_count
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.parts.policy
    }

    pub(crate) fn shared_policy(&self) -> Arc<Policy> {
        Arc::clone(&self.parts.policy)
    }

    pub(crate) fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    pub(crate) fn hub(&self) -> RefMut<'_, Hub> {
        self.hub.borrow_mut()
    }

    pub(crate) fn users(&self) -> RefMut<'_, Users> {
        self.users.borrow_mut()
    }

    pub(crate) fn user_counts(&self) -> &UserCounts {
        &self.parts.user_counts
    }

    pub(crate) fn paces(&self) -> &Paces {
        &self.parts.paces
    }

    pub(crate) fn joins(&self) -> RefMut<'_, HashMap<ChannelName, u32>> {
        self.joins.borrow_mut()
    }

    pub(crate) fn alarms(&self) -> RefMut<'_, BTreeSet<(Instant, u32)>> {
        self.alarms.borrow_mut()
    }

    pub(crate) fn talkative(&self) -> RefMut<'_, Vec<Rc<Connection>>> {
        self.talkative.borrow_mut()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    pub(crate) fn closes(&self) -> &Closes {
        &self.parts.closes
    }

    pub(crate) fn plain_close_codes(&self) -> PlainCloseCodes {
        self.parts.plain_close_codes
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.parts.memory
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The buffer that every read of this shard goes through.
    pub(crate) fn read_buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.read_buffer.borrow_mut()
    }

    /// What decoding needs once per shard and dialect.
    pub(crate) fn decoding(&self, client: &Client) -> RefMut<'_, dunlin_ws::Context> {
        self.decoding.of(client)
    }

    /// An empty list for what a session decides. Who has carried it out gives it back.
    pub(crate) fn take_effects(&self) -> Effects {
        self.effects.take()
    }

    pub(crate) fn keep_effects(&self, effects: Effects) {
        self.effects.set(effects);
    }

    /// Where those wait who have used up their share, and answers.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Milliseconds since the shard began.
    pub(crate) fn uptime_ms(&self) -> u64 {
        self.started_at.elapsed().as_millis() as u64
    }

    /// Tenths of a second since the shard began; wraps after 13 years.
    pub(crate) fn uptime_tenths(&self) -> u32 {
        (self.started_at.elapsed().as_millis() / 100) as u32
    }

    /// Makes a seat, and subscribes it if it is for one channel. Its deliveries wait in its backlog
    /// until it has a socket.
    fn reserve(
        &self,
        newcomer: Newcomer,
        arrival: Arrival,
    ) -> (ConnectionId, Result<Wish, BrokerLost>) {
        self.generation.set(self.generation.get().wrapping_add(1));
        let compression = arrival.compression;
        if compression.may_send() {
            self.outbox.expect_deflation();
        }
        let mut connections = self.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("limits.connections is below 2^32");
        let id = ConnectionId { shard: self.parts.id, slot, generation: self.generation.get() };
        let (client, wish) = match newcomer {
            Newcomer::Plain { channel, options } => {
                self.listen(slot, &channel, options, compression)
            }
            Newcomer::Centrifuge { encoding, pings_by_frames } => {
                let connect_by = Instant::now() + self.policy().rules.connect_within;
                let session = Session::new(encoding, pings_by_frames, connect_by.into_std());
                (Client::Centrifuge(Box::new(Dialogue::new(session))), Ok(Wish::Granted))
            }
        };
        entry.insert(Rc::new(Connection::seat(id, client, arrival, self.uptime_tenths())));
        self.seats.set(self.seats.get() + 1);
        (id, wish)
    }

    /// Subscribes a client of the plain dialect.
    fn listen(
        &self,
        slot: u32,
        channel: &ChannelName,
        options: Arc<ChannelOptions>,
        compression: Compression,
    ) -> (Client, Result<Wish, BrokerLost>) {
        let is_deflated = compression.may_send();
        let format = if is_deflated { Format::PLAIN_DEFLATED } else { Format::PLAIN };
        let mut hub = self.hub.borrow_mut();
        let (subscription, _) = hub.subscribe(channel, &Manner::all(format), slot);
        let channel = hub.channel(subscription).clone();
        let wish = self.parts.node.want(&channel, self.parts.id, options.retention());
        (Client::Plain(Listener::new(channel, options, subscription)), wish)
    }

    /// Ends a connection after it got what is in the inbox now, such as its own last publishes.
    pub(crate) fn end_after_turn(&self, id: ConnectionId, why: Disconnect, close_frame: Bytes) {
        self.parts.inbox.push_end(id, why, close_frame);
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        self.connection_at(id.slot).filter(|connection| connection.id() == id)
    }

    /// Whoever is in a slot now.
    pub(crate) fn connection_at(&self, slot: u32) -> Option<Rc<Connection>> {
        self.connections.borrow().get(slot as usize).cloned()
    }

    /// All slots that connections have now are below this.
    pub(crate) fn slot_count(&self) -> u32 {
        let connections = self.connections.borrow();
        let last = connections.iter().next_back();
        last.map_or(0, |(_, connection)| connection.id().slot + 1)
    }

    /// All connections there are now.
    pub(crate) fn everyone(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().iter().map(|(_, connection)| Rc::clone(connection)).collect()
    }

    /// Ends all subscriptions of a connection; it gets no more publications, and its user has one
    /// connection less.
    pub(crate) fn unsubscribe_all_of(self: &Rc<Self>, connection: &Rc<Connection>) {
        match connection.client() {
            Client::Plain(listener) => {
                let Some(subscription) = listener.subscription().take() else { return };
                self.leave_hub(subscription);
            }
            Client::Centrifuge(_) => self.tell_session(connection, Input::Closed),
        }
    }

    /// Tells the ledger how many subscriptions there are.
    pub(crate) fn note_subscriptions(&self) {
        self.parts.ledger.subscriptions(self.hub.borrow().subscription_count());
    }

    /// Forgets a connection and drops its socket. Does nothing when it is forgotten already.
    pub(crate) fn remove(self: &Rc<Self>, connection: &Rc<Connection>, why: Disconnect) {
        let id = connection.id();
        if self.connection(id).is_none() {
            return;
        }
        if connection.ending().is_none() {
            self.record_close(connection, why, None);
        }
        self.unsubscribe_all_of(connection);
        self.connections.borrow_mut().remove(id.slot as usize);
        connection.abandon();
        self.take_backlog(connection);
        self.note_unhandled(connection, 0);
        match connection.stream() {
            Some(stream) => {
                stream.announce_end();
                self.parts.ledger.close(why);
            }
            None => self.seats.set(self.seats.get() - 1),
        }
        self.removed.notify_one();
    }
}
