//! A connection on its shard: its socket, its backlog and how it ends. Reading is in `reader.rs`.
//!
//! Everything here runs on the shard's thread. Three things touch a connection: the fan-out writes
//! to it, its reader task reads from it, and while its socket is full a drain task empties its
//! backlog. A connection ends in one way only, [`Shard::end`], whoever wants it to end.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    io::{self, ErrorKind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use dunlin_core::{
    channel::ChannelName, error::Disconnect, hub::SubscriptionId, ids::ConnectionId,
    namespace::ChannelOptions,
};
use dunlin_protocol::centrifuge;
use dunlin_ws::{CloseCode, Compression};
use tokio::{
    task::{AbortHandle, spawn_local},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    backlog::Backlog,
    session::Session,
    shard::{Place, Shard},
    stream::Stream,
};

/// One socket, or a seat reserved for one. What every delivery looks at stands together, first.
#[repr(C)]
pub(crate) struct Connection {
    /// The last run of publications written to it.
    last_run: Cell<u64>,
    /// The task that empties the backlog, or closes the connection.
    drain: RefCell<Option<AbortHandle>>,
    /// Absent while this is a seat: the client has not got its 101.
    stream: OnceCell<Stream>,
    backlog: RefCell<Backlog>,
    client: Client,
    reader: OnceCell<AbortHandle>,
    reserved_at: Instant,
    /// Its place among all connections of the node, given back when it is dropped.
    _place: Place,
    id: ConnectionId,
    compression: Compression,
    /// Why the connection ends, once that is decided.
    ending: Cell<Option<Disconnect>>,
    /// Whether nothing was heard since the last ping.
    is_quiet: Cell<bool>,
    /// Whether its reader waits until there is room for more publishes.
    is_held: Cell<bool>,
    /// Whether what is written to it waits in its backlog for something that has to come first.
    is_held_back: Cell<bool>,
}

/// Who is at the other end, by the dialect that it speaks.
pub(crate) enum Client {
    /// The plain dialect: one channel, from the beginning to the end.
    Plain(Listener),
    /// The Centrifuge dialect.
    Centrifuge(Box<RefCell<Session>>),
}

/// A client of the plain dialect.
pub(crate) struct Listener {
    channel: ChannelName,
    options: Arc<ChannelOptions>,
    subscription: Cell<Option<SubscriptionId>>,
}

impl Listener {
    pub(crate) fn new(
        channel: ChannelName,
        options: Arc<ChannelOptions>,
        subscription: SubscriptionId,
    ) -> Self {
        Self { channel, options, subscription: Cell::new(Some(subscription)) }
    }

    pub(crate) fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The options of its channel.
    pub(crate) fn options(&self) -> &ChannelOptions {
        &self.options
    }

    pub(crate) fn subscription(&self) -> &Cell<Option<SubscriptionId>> {
        &self.subscription
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The socket has it, or the backlog.
    Taken,
    /// The backlog is over its bound: end the connection.
    Overrun,
}

/// How long a client may take to read its close frame and to close its side.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

impl Connection {
    pub(crate) fn seat(
        id: ConnectionId,
        client: Client,
        compression: Compression,
        place: Place,
    ) -> Self {
        Self {
            id,
            client,
            compression,
            reserved_at: Instant::now(),
            stream: OnceCell::new(),
            backlog: RefCell::default(),
            drain: RefCell::new(None),
            reader: OnceCell::new(),
            ending: Cell::new(None),
            last_run: Cell::new(0),
            is_quiet: Cell::new(false),
            is_held: Cell::new(false),
            is_held_back: Cell::new(false),
            _place: place,
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The session of a client of the Centrifuge dialect.
    pub(crate) fn session(&self) -> Option<&RefCell<Session>> {
        match &self.client {
            Client::Plain(_) => None,
            Client::Centrifuge(session) => Some(session),
        }
    }

    /// The close frame that tells the client why, in its dialect.
    pub(crate) fn close_frame(&self, why: Disconnect) -> Bytes {
        match self.client {
            Client::Plain(_) => close_frame(why),
            Client::Centrifuge(_) => {
                let (code, reason) = centrifuge::close_code(why);
                let code = CloseCode::new(code).unwrap_or(CloseCode::INTERNAL);
                dunlin_ws::close_frame(code, reason)
            }
        }
    }

    /// From now on what is written waits until [`Shard::write_first`].
    pub(crate) fn hold_back(&self) {
        self.is_held_back.set(true);
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    pub(crate) fn reserved_at(&self) -> Instant {
        self.reserved_at
    }

    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.stream.get()
    }

    pub(crate) fn ending(&self) -> Option<Disconnect> {
        self.ending.get()
    }

    /// Notes a sign of life.
    pub(crate) fn hear(&self) {
        self.is_quiet.set(false);
    }

    /// Whether nothing was heard since [`Connection::expect_sign_of_life`], although we listened.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet.get() && !self.is_held.get()
    }

    /// Notes whether its reader waits for room: its silence is ours then.
    pub(crate) fn hold(&self, is_held: bool) {
        self.is_held.set(is_held);
    }

    pub(crate) fn expect_sign_of_life(&self) {
        self.is_quiet.set(true);
    }

    /// Whether `run` is new to this connection. A fan-out with pauses can meet it twice.
    pub(crate) fn begins_run(&self, run: u64) -> bool {
        self.last_run.replace(run) != run
    }

    pub(crate) fn backlog_bytes(&self) -> usize {
        self.backlog.borrow().bytes()
    }

    /// Gives the seat its socket. False when it has one.
    pub(crate) fn attach(&self, stream: Stream) -> bool {
        self.stream.set(stream).is_ok()
    }

    pub(crate) fn set_reader(&self, reader: AbortHandle) {
        // A connection is attached once, so there is no reader yet.
        let _ = self.reader.set(reader);
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self.stream() {
            Some(stream) => poll_fn(|context| stream.poll_read_ready(context)).await,
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Stops the tasks that work on this connection, at its removal.
    pub(crate) fn abandon(&self) -> Backlog {
        for task in [self.drain.take(), self.reader.get().cloned()].into_iter().flatten() {
            task.abort();
        }
        self.backlog.borrow_mut().take()
    }

    /// Waits until the socket takes bytes and writes what it takes. True when nothing is left.
    async fn write_backlog(&self, shard: &Shard) -> io::Result<bool> {
        let stream = self.stream().ok_or(ErrorKind::NotConnected)?;
        poll_fn(|context| stream.poll_write_ready(context)).await?;
        let mut backlog = self.backlog.borrow_mut();
        while !backlog.is_empty() {
            match stream.try_write(backlog.first()) {
                Ok(count) => {
                    backlog.advance(count);
                    shard.tally().wrote_from_backlog(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        stream.try_flush()
    }
}

impl Shard {
    /// Writes whole frames to a connection: at once if its socket takes them, through its backlog
    /// otherwise.
    pub(crate) fn write(self: &Rc<Self>, connection: &Rc<Connection>, frames: &Bytes) -> Written {
        let mut written = 0;
        if let Some(stream) = connection.stream()
            && connection.drain.borrow().is_none()
            && !connection.is_held_back.get()
        {
            match stream.try_write(frames) {
                Ok(count) => written = count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The socket is dead. Its reader sees that too and removes the connection.
                Err(_) => return Written::Taken,
            }
            self.tally().wrote(written);
            if written == frames.len() && matches!(stream.try_flush(), Ok(true)) {
                return Written::Taken;
            }
        }
        self.write_later(connection, frames, written)
    }

    /// Writes whole frames before everything that was held back, which follows.
    pub(crate) fn write_first(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        frames: &Bytes,
    ) -> Written {
        connection.is_held_back.set(false);
        let held_back = connection.backlog.borrow_mut().take();
        self.tally().dropped(held_back.bytes());
        let mut written = self.write(connection, frames);
        for frames in held_back.into_runs() {
            if written == Written::Taken {
                written = self.write(connection, &frames);
            }
        }
        written
    }

    fn write_later(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        frames: &Bytes,
        written: usize,
    ) -> Written {
        let mut backlog = connection.backlog.borrow_mut();
        let rest = frames.len() - written;
        // What joins an empty backlog may be larger: any single message must pass.
        if !backlog.is_empty() && backlog.bytes() + rest > self.limits().backlog_bytes {
            return Written::Overrun;
        }
        if rest > 0 {
            self.tally().queued(rest);
            backlog.push(frames.clone(), written, Instant::now());
        }
        drop(backlog);
        self.start_drain(connection);
        Written::Taken
    }

    /// Starts emptying the backlog, unless there is no socket yet or it is being emptied.
    pub(crate) fn start_drain(self: &Rc<Self>, connection: &Rc<Connection>) {
        let mut task = connection.drain.borrow_mut();
        let may_write = connection.stream().is_some() && !connection.is_held_back.get();
        if task.is_none() && may_write {
            let drain = drain(Rc::clone(self), Rc::clone(connection));
            *task = Some(spawn_local(drain).abort_handle());
        }
    }

    /// Ends a connection: it gets no more publications, its close frame, a grace to read it.
    pub(crate) fn end(self: &Rc<Self>, connection: &Rc<Connection>, why: Disconnect) {
        self.end_with(connection, why, connection.close_frame(why));
    }

    /// Ends a connection with a close frame of the caller's.
    pub(crate) fn end_with(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        why: Disconnect,
        close_frame: Bytes,
    ) {
        if connection.ending().is_some() {
            return;
        }
        connection.ending.set(Some(why));
        connection.is_held_back.set(false);
        self.unsubscribe_all_of(connection);
        if connection.stream().is_none() || why == Disconnect::PongTimeout {
            self.cut(connection, why);
            return;
        }
        let mut backlog = connection.backlog.borrow_mut();
        let before = backlog.bytes();
        if !matches!(why, Disconnect::NodeLeaving | Disconnect::ClientLeft) {
            backlog.cut_at_frame_end();
        }
        self.tally().dropped(before - backlog.bytes());
        self.tally().queued(close_frame.len());
        backlog.push(close_frame, 0, Instant::now());
        drop(backlog);
        if why == Disconnect::SlowReader
            && let Some(stream) = connection.stream()
        {
            stream.make_room_for_last_words();
        }
        let close = spawn_local(close(Rc::clone(self), Rc::clone(connection), why));
        if let Some(drain) = connection.drain.replace(Some(close.abort_handle())) {
            drain.abort();
        }
    }

    /// Ends a connection at once, with a close frame if its socket happens to take one.
    pub(crate) fn cut(&self, connection: &Rc<Connection>, why: Disconnect) {
        let is_between_frames =
            connection.drain.borrow().is_none() && connection.backlog.borrow().is_empty();
        if let Some(stream) = connection.stream()
            && is_between_frames
        {
            // Nobody may be there to read it.
            let _ = stream.try_write(&connection.close_frame(why));
        }
        self.remove(connection, why);
    }
}

/// The close frame that tells a client of the plain dialect why.
pub(crate) fn close_frame(why: Disconnect) -> Bytes {
    let code = CloseCode::new(why.code()).unwrap_or(CloseCode::INTERNAL);
    dunlin_ws::close_frame(code, why.reason())
}

/// Empties the backlog; ends the connection when that takes too long.
async fn drain(shard: Rc<Shard>, connection: Rc<Connection>) {
    loop {
        let age = shard.limits().backlog_age;
        let expiry = connection.backlog.borrow().expires_at(age);
        let expires_at = expiry.unwrap_or_else(|| Instant::now() + age);
        match timeout_at(expires_at, connection.write_backlog(&shard)).await {
            Ok(Ok(false)) => {}
            // Empty; or dead, which the reader sees too.
            Ok(Ok(true) | Err(_)) => break,
            Err(_elapsed) => return shard.end(&connection, Disconnect::SlowReader),
        }
    }
    connection.drain.take();
}

/// Flushes what is left, half-closes, and gives the client time to close its side: a socket closed
/// with unread bytes in it would be reset and the close frame lost on the way.
async fn close(shard: Rc<Shard>, connection: Rc<Connection>, why: Disconnect) {
    let flush = async {
        while !connection.write_backlog(&shard).await? {}
        io::Result::Ok(())
    };
    let gone_at = Instant::now() + CLOSE_GRACE;
    let is_flushed = matches!(timeout_at(gone_at, flush).await, Ok(Ok(())));
    if is_flushed
        && why != Disconnect::ClientLeft
        && let Some(stream) = connection.stream()
    {
        stream.shutdown_write();
        // The reader ends at the client's end of stream, and aborts this wait.
        sleep_until(gone_at).await;
    }
    shard.remove(&connection, why);
}
