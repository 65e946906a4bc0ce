//! How other threads reach a shard: its handle, the orders it takes, and the seats it gives.

use std::{io, net::Ipv6Addr, rc::Rc, sync::Arc, thread, time::Duration};

use bytes::BytesMut;
use dunlin_core::{
    channel::ChannelName,
    control::{self, Question},
    error::{BrokerLost, Disconnect},
    ids::ConnectionId,
    interest::Wish,
    limits::SUBSCRIBE_WAIT,
    namespace::ChannelOptions,
    publication::Encoding,
};
use dunlin_ws::Compression;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
    task::spawn_local,
    time::{Instant, timeout},
};

use super::{Census, Parts, Place, Shard};
use crate::{reader, stream::DetachedStream};

/// A running shard, as the front sees it.
#[derive(Clone)]
pub(crate) struct ShardHandle {
    orders: mpsc::Sender<Order>,
}

/// A connection's place on a shard before its client has its 101: subscribed already, so that
/// nothing published after the 101 is missed. Dropping it gives it back.
pub(crate) struct Seat {
    id: ConnectionId,
    orders: mpsc::Sender<Order>,
    is_taken: bool,
}

/// Why there is no seat now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSeat {
    /// The broker is away, so nothing could be promised.
    BrokerLost,
    /// The node takes nobody any more.
    NodeLeaving,
}

impl From<BrokerLost> for NoSeat {
    fn from(_: BrokerLost) -> Self {
        Self::BrokerLost
    }
}

/// Who comes, by the dialect that it speaks.
pub(crate) enum Newcomer {
    /// The plain dialect, to one channel.
    Plain { channel: ChannelName, options: Arc<ChannelOptions> },
    /// The Centrifuge dialect.
    Centrifuge {
        encoding: Encoding,
        /// Whether it is pinged by WebSocket frames instead of messages.
        pings_by_frames: bool,
    },
}

/// What it comes with.
pub(crate) struct Arrival {
    /// Where it is; unspecified = unknown.
    pub(crate) address: Ipv6Addr,
    /// What was agreed on about messages.
    pub(crate) compression: Compression,
    /// Its place among all connections of the node.
    pub(crate) place: Place,
}

enum Order {
    Reserve {
        newcomer: Newcomer,
        arrival: Arrival,
        answer: oneshot::Sender<(ConnectionId, Result<Wish, BrokerLost>)>,
    },
    Attach {
        id: ConnectionId,
        stream: DetachedStream,
        early: BytesMut,
    },
    Release(ConnectionId),
    Control(Arc<control::Order>),
    Census(Arc<Question>, oneshot::Sender<Census>),
    Shed {
        bytes: usize,
        /// When somebody looks at the memory anew: what was true is not, then.
        until: Instant,
    },
    Leave {
        over: Duration,
        done: oneshot::Sender<()>,
    },
}

/// Orders that may wait in front of a shard; who brings more waits.
const ORDERS_MAX: usize = 1024;

/// The nice value of threads that do what can wait.
const ASIDE_PRIORITY: i32 = 10;

/// Starts a shard on a thread of its own. The thread ends when every handle is gone.
///
/// # Errors
/// When the system has no thread or no event loop left.
pub(crate) fn spawn(parts: Parts) -> io::Result<ShardHandle> {
    let (orders, received) = mpsc::channel(ORDERS_MAX);
    let name = format!("shard-{}", parts.id.place());
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name(name).spawn(move || {
        // The one thread beside the shard's is for what would hold it up: signature checks. It
        // gives way to shards, also where they have no core to themselves.
        let mut builder = Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(1).on_thread_start(|| {
            // Of this thread alone, and it works without, too.
            let _ = rustix::process::setpriority_process(None, ASIDE_PRIORITY);
        });
        let runtime = builder.build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let _ = ready.send(Ok(()));
                runtime.block_on(run(parts, received));
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    })?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("the shard's thread died")))?;
    Ok(ShardHandle { orders })
}

async fn run(parts: Parts, mut orders: mpsc::Receiver<Order>) {
    let shard = Rc::new(Shard::new(parts));
    let mut deliver = spawn_local(Rc::clone(&shard).deliver());
    let mut sweep = spawn_local(Rc::clone(&shard).sweep());
    loop {
        // Both end by a panic only, which is a bug of ours: the shard ends and its node with it.
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = &mut deliver => None,
            _ = &mut sweep => None,
        };
        let Some(order) = order else { return };
        shard.obey(order);
    }
}

impl Shard {
    fn obey(self: &Rc<Self>, order: Order) {
        match order {
            // The dropped answer is a refusal: who comes now by an old HTTP connection gets 503.
            Order::Reserve { .. } if self.is_leaving.get() => {}
            Order::Reserve { newcomer, arrival, answer } => {
                let (id, wish) = self.reserve(newcomer, arrival);
                if answer.send((id, wish)).is_err() {
                    self.release(id);
                }
            }
            Order::Attach { id, stream, early } => self.attach(id, stream, early),
            Order::Release(id) => self.release(id),
            Order::Control(order) => self.obey_control(&order),
            Order::Census(question, answer) => {
                // Who asked may have waited long enough.
                let _ = answer.send(self.census(&question));
            }
            Order::Shed { bytes, until } if Instant::now() < until => self.shed(bytes),
            Order::Shed { .. } => {}
            Order::Leave { over, done } => {
                let leave = Rc::clone(self).leave(over);
                spawn_local(async move {
                    leave.await;
                    // Nobody waits any more after a second signal.
                    let _ = done.send(());
                });
            }
        }
    }

    fn release(self: &Rc<Self>, id: ConnectionId) {
        if let Some(seat) = self.connection(id) {
            self.remove(&seat, Disconnect::ClientLeft);
        }
    }

    /// Gives a seat its socket: what waits for it is written, and what it sends is read.
    fn attach(self: &Rc<Self>, id: ConnectionId, stream: DetachedStream, early: BytesMut) {
        let Some(connection) = self.connection(id) else {
            // The seat is gone: over its bound or its time before it had a socket.
            self.parts.ledger.open();
            stream.say_last(&self.plain_close_frame(Disconnect::SlowReader));
            self.parts.ledger.close(Disconnect::SlowReader);
            self.record_close_of_seat(id, Disconnect::SlowReader);
            return;
        };
        let Ok(stream) = stream.attach() else { return self.release(id) };
        if !connection.attach(stream) {
            return;
        }
        self.seats.set(self.seats.get() - 1);
        self.parts.ledger.open();
        self.parts.ledger.subscriptions(self.hub.borrow().subscription_count());
        if connection.backlog_bytes() > 0 {
            self.start_drain(&connection);
        }
        let run = reader::run(Rc::clone(self), Rc::clone(&connection), early);
        let reader = spawn_local(run);
        connection.set_reader(reader.abort_handle());
        self.set_first_alarm(&connection);
        connection.record_open();
        if self.is_leaving.get() {
            self.end(&connection, Disconnect::NodeLeaving);
        }
    }
}

impl ShardHandle {
    /// Reserves a seat and waits until its subscription, if it has one from the start, stands.
    ///
    /// # Errors
    /// [`NoSeat`] when nothing can be promised now.
    pub(crate) async fn reserve(
        &self,
        newcomer: Newcomer,
        arrival: Arrival,
    ) -> Result<Seat, NoSeat> {
        let (answer, reserved) = oneshot::channel();
        let order = Order::Reserve { newcomer, arrival, answer };
        self.orders.send(order).await.map_err(|_| NoSeat::NodeLeaving)?;
        let (id, wish) = reserved.await.map_err(|_| NoSeat::NodeLeaving)?;
        let seat = Seat { id, orders: self.orders.clone(), is_taken: false };
        if let Wish::Pending(pending) = wish? {
            timeout(SUBSCRIBE_WAIT, pending.granted()).await.map_err(|_| NoSeat::BrokerLost)??;
        }
        Ok(seat)
    }

    /// Has the shard obey an order of the application; who brings the next one waits while the
    /// shard is behind.
    pub(crate) async fn obey(&self, order: Arc<control::Order>) {
        // A shard that died has no clients either.
        let _ = self.orders.send(Order::Control(order)).await;
    }

    /// What the shard knows about a question; nothing when it has died.
    pub(crate) async fn census(&self, question: Arc<Question>) -> Census {
        let (answer, counted) = oneshot::channel();
        let _ = self.orders.send(Order::Census(question, answer)).await;
        counted.await.unwrap_or_default()
    }

    /// Has the shard free so many bytes by closing those for whom most is kept, unless it comes to
    /// that too late; it is asked again soon.
    pub(crate) fn shed(&self, bytes: usize, until: Instant) {
        let _ = self.orders.try_send(Order::Shed { bytes, until });
    }

    /// Waits until the shard has died, which is a bug of ours.
    pub(crate) async fn died(&self) {
        self.orders.closed().await;
    }

    /// Ends all connections, evenly spread over `over`, and waits until they are gone.
    pub(crate) async fn leave(&self, over: Duration) {
        let (done, left) = oneshot::channel();
        if self.orders.send(Order::Leave { over, done }).await.is_ok() {
            // A shard that died has no connections left either.
            let _ = left.await;
        }
    }
}

impl Seat {
    /// Gives the seat its socket. `early` is what the client sent before it had its 101.
    pub(crate) async fn attach(mut self, stream: DetachedStream, early: BytesMut) {
        self.is_taken = true;
        let order = Order::Attach { id: self.id, stream, early };
        // A shard that died takes nobody; the dropped socket tells the client.
        let _ = self.orders.send(order).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.is_taken {
            // When the orders are full, the shard's sweep gives the seat up a little later.
            let _ = self.orders.try_send(Order::Release(self.id));
        }
    }
}
