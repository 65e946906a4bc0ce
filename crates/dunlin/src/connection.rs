//! A connection on its shard: its socket, its backlog and how it ends. Reading is in `reader.rs`.
//!
//! Everything here runs on the shard's thread. Three things touch a connection: the fan-out writes
//! to it, its reader task reads from it, and while its socket is full a drain task empties its
//! backlog. A connection ends in one way only, [`Shard::end`], whoever wants it to end.

mod client;
mod close_frame;
mod ending;
mod record;
mod writing;

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    io::{self, ErrorKind},
    net::Ipv6Addr,
    sync::Arc,
    time::Duration,
};

use dunlin_core::{
    error::Disconnect,
    ids::{ConnectionId, ShardId},
    session::Session,
};
use dunlin_ws::Compression;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, yield_now},
    time::Instant,
};

use self::writing::Drain;
pub(crate) use self::{
    client::{Client, Dialogue, Listener},
    record::Closes,
};
use crate::{
    backlog::Backlog,
    shard::{Arrival, Place, Shard},
    stream::Stream,
};

/// Bytes that a client may have to read and still ask for more.
const OWED_MAX: usize = 64 * 1024;

/// One socket, or a seat reserved for one. What every delivery looks at stands together, first.
#[repr(C)]
pub(crate) struct Connection {
    /// The last run of publications written to it.
    last_run: Cell<u64>,
    /// What empties the backlog, or closes the connection.
    drain: RefCell<Option<Box<Drain>>>,
    /// Absent while this is a seat: the client has not got its 101.
    stream: OnceCell<Stream>,
    backlog: RefCell<Backlog>,
    client: Client,
    reader: OnceCell<AbortHandle>,
    /// Where the client is, of IPv4 as mapped into IPv6; unspecified = unknown.
    address: Ipv6Addr,
    /// Its place among all connections of the node, given back when it is dropped.
    _place: Place,
    /// Its slot on the shard, and the generation there; its id, with `shard`.
    slot: u32,
    generation: u32,
    /// When its seat was reserved, in tenths of a second since the shard began.
    reserved_at: u32,
    /// Time of the shard that what it sent has taken, in microseconds; stops at the highest number.
    used_us: Cell<u32>,
    shard: ShardId,
    /// KiB it sent that wait in its reader.
    unhandled_kib: Cell<u16>,
    compression: Compression,
    /// Why the connection ends, once that is decided.
    ending: Cell<Option<Disconnect>>,
    flags: Cell<u8>,
}

/// Nothing was heard since the last ping.
const QUIET: u8 = 1;
/// Its reader waits until there is room for more publishes.
const HELD: u8 = 2;
/// What is written to it waits in its backlog for something that has to come first.
const HELD_BACK: u8 = 4;

fn kibibytes(count: u16) -> usize {
    usize::from(count) * 1024
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The socket has it, or the backlog.
    Taken,
    /// The backlog has it, and its client is behind.
    Behind,
    /// The backlog is over its bound: end the connection.
    Overrun,
}

impl Connection {
    pub(crate) fn seat(
        id: ConnectionId,
        client: Client,
        Arrival { address, compression, place }: Arrival,
        reserved_at: u32,
    ) -> Self {
        let ConnectionId { shard, slot, generation } = id;
        Self {
            shard,
            slot,
            generation,
            client,
            compression,
            reserved_at,
            address,
            stream: OnceCell::new(),
            backlog: RefCell::default(),
            drain: RefCell::new(None),
            reader: OnceCell::new(),
            unhandled_kib: Cell::new(0),
            ending: Cell::new(None),
            last_run: Cell::new(0),
            used_us: Cell::new(0),
            flags: Cell::new(0),
            _place: place,
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        let Self { shard, slot, generation, .. } = *self;
        ConnectionId { shard, slot, generation }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What there is with a client of the Centrifuge dialect.
    pub(crate) fn dialogue(&self) -> Option<&Dialogue> {
        match &self.client {
            Client::Plain(_) => None,
            Client::Centrifuge(dialogue) => Some(dialogue),
        }
    }

    /// The session of a client of the Centrifuge dialect.
    pub(crate) fn session(&self) -> Option<&RefCell<Session>> {
        self.dialogue().map(Dialogue::session)
    }

    /// When that session is woken next.
    pub(crate) fn alarm(&self) -> Option<&Cell<Option<Instant>>> {
        self.dialogue().map(Dialogue::alarm)
    }

    /// Turns for subscriptions that go on where they were.
    pub(crate) fn recoveries(&self) -> Option<Arc<Semaphore>> {
        self.dialogue().map(Dialogue::recoveries)
    }

    fn has_flag(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }

    fn set_flag(&self, flag: u8, is_on: bool) {
        let others = self.flags.get() & !flag;
        self.flags.set(if is_on { others | flag } else { others });
    }

    /// What it sent has taken so much of the shard's time.
    pub(crate) fn note_used(&self, time: Duration) {
        let used_us = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.used_us.set(self.used_us.get().saturating_add(used_us));
    }

    /// Time of the shard that what it sent has taken, in microseconds.
    pub(crate) fn used_us(&self) -> u32 {
        self.used_us.get()
    }

    /// From now on what is written waits until [`Shard::write_first`].
    pub(crate) fn hold_back(&self) {
        self.set_flag(HELD_BACK, true);
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// In tenths of a second since the shard began.
    pub(crate) fn reserved_at(&self) -> u32 {
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
        self.set_flag(QUIET, false);
    }

    /// Whether nothing was heard since [`Connection::expect_sign_of_life`], although we listened.
    pub(crate) fn is_quiet(&self) -> bool {
        self.has_flag(QUIET) && !self.has_flag(HELD)
    }

    /// Notes whether its reader waits for room: its silence is ours then.
    pub(crate) fn hold(&self, is_held: bool) {
        // Nor does it count that it was asked before.
        self.set_flag(QUIET, false);
        self.set_flag(HELD, is_held);
    }

    pub(crate) fn expect_sign_of_life(&self) {
        self.set_flag(QUIET, true);
    }

    /// Whether `run` is new to this connection. A fan-out with pauses can meet it twice.
    pub(crate) fn begins_run(&self, run: u64) -> bool {
        self.last_run.replace(run) != run
    }

    pub(crate) fn backlog_bytes(&self) -> usize {
        self.backlog.borrow().bytes()
    }

    /// Bytes that are kept for it alone.
    pub(crate) fn private_bytes(&self) -> usize {
        self.backlog.borrow().answer_bytes() + kibibytes(self.unhandled_kib.get())
    }

    /// Whether most of these are answers that it does not read.
    pub(crate) fn answers_predominate(&self) -> bool {
        self.backlog.borrow().answer_bytes() >= kibibytes(self.unhandled_kib.get())
    }

    /// Bytes that are kept for it, also those that others wait for as well.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.backlog_bytes() + kibibytes(self.unhandled_kib.get())
    }

    /// Notes how many bytes it sent wait in its reader; says how many are counted for that, before
    /// and from now on.
    pub(crate) fn note_unhandled(&self, bytes: usize) -> (usize, usize) {
        let now = u16::try_from(bytes.div_ceil(1024)).unwrap_or(u16::MAX);
        (kibibytes(self.unhandled_kib.replace(now)), kibibytes(now))
    }

    /// Whether the client has more to read than it should ask for more before it did. What waits
    /// for something else, or for the end, is no reason.
    pub(crate) fn owes_much(&self) -> bool {
        if self.ending().is_some() || self.has_flag(HELD_BACK) {
            return false;
        }
        let is_drained = self.drain.borrow().is_some();
        let backlog = if is_drained { self.backlog_bytes() } else { 0 };
        let untold = self.dialogue().map_or(0, |dialogue| dialogue.replies().borrow().len());
        backlog + untold > OWED_MAX
    }

    /// Whether its client reads, although there is more for it.
    pub(crate) fn reads(&self) -> bool {
        self.drain.borrow().as_ref().is_some_and(|drain| drain.is_moving())
    }

    /// Waits until its client has read what there is, or nobody writes it any more.
    pub(crate) async fn read(&self) {
        while self.owes_much() {
            let done = self.drain.borrow().as_ref().map(|drain| drain.done());
            match done {
                Some(done) => done.notified().await,
                // It is written in this round.
                None => yield_now().await,
            }
        }
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
    pub(crate) fn abandon(&self) {
        if let Some(reader) = self.reader.get() {
            reader.abort();
        }
        self.drain.take();
    }

    /// Waits until the socket takes bytes and writes what it takes.
    async fn write_backlog(&self, shard: &Shard) -> io::Result<Flushed> {
        let stream = self.stream().ok_or(ErrorKind::NotConnected)?;
        poll_fn(|context| stream.poll_write_ready(context)).await?;
        let mut written = 0;
        let is_empty = shard.with_backlog(self, |backlog| {
            while !backlog.is_empty() {
                match stream.try_write(backlog.first()) {
                    Ok(count) => {
                        backlog.advance(count);
                        written += count;
                        shard.tally().wrote_from_backlog(count);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            stream.try_flush()
        })?;
        Ok(if is_empty { Flushed::Wholly } else { Flushed::Partly(written) })
    }
}

/// How much of a backlog the socket took.
enum Flushed {
    /// So many bytes.
    Partly(usize),
    /// All there was.
    Wholly,
}
