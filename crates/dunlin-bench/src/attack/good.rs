//! The good clients: they publish at a steady pace, listen, and note how long each delivery takes
//! and what never comes. One room of theirs speaks the plain dialect. One thread drives them all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread::{self, JoinHandle},
};

use anyhow::{Result, anyhow, ensure};
use hdrhistogram::Histogram;

use super::sequence::Sequence;
use crate::{
    centrifuge::Command,
    clock::{self, SECOND},
    connection::{Connection, Ending},
    epoll::Epoll,
    histogram,
    load::{Answer, Dialect, GREETED_ID, Heard, PUBLISH_ID},
    open,
    payload::Stamp,
    server::Server,
    target::Target,
    websocket,
};

/// All good clients.
pub(super) struct Good {
    shared: Arc<Shared>,
    task: JoinHandle<Result<Kept>>,
}

/// Whether the server kept its promises to them.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) closed: BTreeMap<Ending, u64>,
    /// Deliveries that those who stayed did not get.
    pub(super) lost: u64,
    /// Deliveries that came twice or late.
    pub(super) repeated: u64,
    pub(super) deliveries: u64,
    /// How long deliveries took, by the phase in which they were due: one that an attack holds up
    /// until it is over is the attack's doing.
    pub(super) phases: Vec<Histogram<u64>>,
}

struct Shared {
    stopped: AtomicBool,
    latency: Mutex<Latency>,
}

/// From when publications were due to their deliveries.
struct Latency {
    /// Of those that came since somebody looked last.
    window: Histogram<u64>,
    /// Of those that were due from then on, until the next phase.
    phases: Vec<(u64, Histogram<u64>)>,
}

impl Latency {
    fn new() -> Self {
        Self { window: histogram::new(), phases: vec![(0, histogram::new())] }
    }

    fn record(&mut self, due: u64, now: u64) {
        let nanoseconds = now.saturating_sub(due);
        self.window.saturating_record(nanoseconds);
        let mut latest_first = self.phases.iter_mut().rev();
        if let Some((_, phase)) = latest_first.find(|(from, _)| *from <= due) {
            phase.saturating_record(nanoseconds);
        }
    }
}

impl Good {
    /// Connects so many, each subscribed to a room with some others and to the hall with all; those
    /// of the plain dialect, which have one channel, to their room only.
    pub(super) fn gather(server: &Server, count: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            latency: Mutex::new(Latency::new()),
        });
        let (gathered, all) = sync_channel(1);
        let targets = [Dialect::CentrifugeJson, Dialect::Plain].map(|it| server.target(it));
        let task = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut crowd = Crowd::connect(&targets, count, shared)?;
                crowd.settle()?;
                gathered.send(())?;
                crowd.live()
            }
        });
        let good = Self { shared, task };
        match all.recv() {
            Ok(()) => Ok(good),
            Err(_) => Err(good.stop().err().unwrap_or(anyhow!("the good clients did not come"))),
        }
    }

    /// How long deliveries took that came since the last call.
    pub(super) fn take_window(&self) -> Histogram<u64> {
        std::mem::replace(&mut lock(&self.shared.latency).window, histogram::new())
    }

    /// What is due from now on belongs together.
    pub(super) fn begin_phase(&self) {
        lock(&self.shared.latency).phases.push((clock::now(), histogram::new()));
    }

    /// Has them publish no more, and waits for what is still on its way.
    pub(super) fn stop(self) -> Result<Kept> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.task.join().map_err(|_| anyhow!("the good clients fell over"))?
    }
}

/// The connections and what each has seen.
struct Crowd {
    shared: Arc<Shared>,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    rooms: usize,
    /// How much each publisher has sent: those of the rooms, then that of the hall.
    sent: Vec<u32>,
    /// What each client got: from its room, from the hall.
    seen: Vec<[Sequence; 2]>,
    /// Subscriptions that are not answered yet.
    awaited: usize,
    buffer: Box<[u8]>,
    kept: Kept,
}

impl Crowd {
    fn connect(targets: &[Target; 2], count: usize, shared: Arc<Shared>) -> Result<Self> {
        let rooms = (count / CLIENTS_PER_ROOM).clamp(2, ROOMS_MAX).min(count - 1);
        let [centrifuge, plain] = targets;
        let wanted = (0..count).map(|number| match dialect(number, rooms) {
            Dialect::Plain => (number, plain, format!("{}/{}", plain.path, room(rooms - 1))),
            _ => (number, centrifuge, centrifuge.path.clone()),
        });
        let opened = open::open(wanted, OPENING)?.opened;
        ensure!(opened.len() == count, "{} of {count} good clients got in", opened.len());
        let mut crowd = Self {
            shared,
            epoll: Epoll::new()?,
            connections: (0..count).map(|_| None).collect(),
            rooms,
            sent: vec![0; rooms + 1],
            seen: vec![[Sequence::default(); 2]; count],
            awaited: 0,
            buffer: vec![0; BUFFER_BYTES].into(),
            kept: Kept::default(),
        };
        for opened in opened {
            let index = opened.number;
            crowd.epoll.add_readable(&opened.socket, index)?;
            crowd.connections[index] = Some(Connection::new(opened.socket, opened.leftover));
            crowd.subscribe(index);
        }
        Ok(crowd)
    }

    fn subscribe(&mut self, index: usize) {
        let dialect = dialect(index, self.rooms);
        let (Some(encoding), Some(connection)) = (dialect.encoding(), &mut self.connections[index])
        else {
            return;
        };
        let mut frame = dialect.greeting(Some(&room(index % self.rooms)));
        encoding.put(&mut frame, HALL_ID, Command::Subscribe { channel: HALL, recover: None });
        connection.queue(encoding.opcode(), &frame, MASK);
        self.awaited += 2;
        self.flush(index);
    }

    /// Waits until all are subscribed.
    fn settle(&mut self) -> Result<()> {
        let patience = clock::now() + GATHERING_NS;
        while self.awaited > 0 {
            ensure!(clock::now() < patience, "{} subscriptions did not come", self.awaited);
            self.turn(clock::now() + SECOND / 100)?;
        }
        Ok(())
    }

    fn live(mut self) -> Result<Kept> {
        let mut due = clock::now();
        while !self.shared.stopped.load(Ordering::Relaxed) {
            if clock::now() >= due {
                (0..self.sent.len()).for_each(|publisher| self.publish(publisher, due));
                due += PUBLISH_EVERY_NS;
            }
            self.turn(due)?;
        }
        let (mut before, mut patience) = (0, clock::now() + DRAIN_NS);
        while self.missing() > 0 && clock::now() < patience {
            if self.kept.deliveries != before {
                (before, patience) = (self.kept.deliveries, clock::now() + DRAIN_NS);
            }
            self.turn(clock::now() + SECOND / 50)?;
        }
        self.kept.lost = self.missing();
        let seen = self.seen.iter().flatten();
        self.kept.repeated = seen.map(Sequence::repeated).sum();
        let phases = std::mem::take(&mut lock(&self.shared.latency).phases);
        self.kept.phases = phases.into_iter().map(|(_, phase)| phase).collect();
        self.connections.into_iter().flatten().for_each(Connection::close);
        Ok(self.kept)
    }

    /// What those who are still there should have had.
    fn missing(&self) -> u64 {
        let here = self.seen.iter().enumerate().filter(|&(at, _)| self.connections[at].is_some());
        here.map(|(index, [from_room, from_hall])| {
            let in_hall = dialect(index, self.rooms) != Dialect::Plain;
            let sent_to_hall = if in_hall { self.sent[self.rooms] } else { 0 };
            from_room.missing(self.sent[index % self.rooms]) + from_hall.missing(sent_to_hall)
        })
        .sum()
    }

    /// Takes what comes until then, once.
    fn turn(&mut self, until: u64) -> Result<()> {
        self.epoll.wait(Some(until))?;
        for index in 0..self.epoll.ready_count() {
            let Some(ready) = self.epoll.ready(index) else { continue };
            if ready.writable {
                self.flush(ready.token);
            }
            if ready.readable {
                self.receive(ready.token);
            }
        }
        Ok(())
    }

    /// Stamped with the time it was due: our own lateness is latency, too.
    fn publish(&mut self, publisher: usize, due: u64) {
        let Some(connection) = &mut self.connections[publisher] else { return };
        let sequence = self.sent[publisher];
        let stamp = Stamp { run: RUN, publisher: publisher as u32, sequence, sent_ns: due };
        let mut payload = [b'.'; PAYLOAD_BYTES];
        stamp.write(&mut payload);
        let channel = if publisher == self.rooms { HALL.to_owned() } else { room(publisher) };
        match dialect(publisher, self.rooms).encoding() {
            None => connection.queue(websocket::TEXT, &payload, MASK),
            Some(encoding) => {
                let mut frame = Vec::new();
                let data = &String::from_utf8_lossy(&payload);
                let publish = Command::Publish { channel: &channel, data };
                encoding.put(&mut frame, PUBLISH_ID, publish);
                connection.queue(encoding.opcode(), &frame, MASK);
            }
        }
        self.sent[publisher] += 1;
        self.flush(publisher);
    }

    fn receive(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        let mut latency = lock(&self.shared.latency);
        let (mut pings, rooms) = (0, self.rooms);
        let dialect = dialect(index, rooms);
        let received = connection.receive(&mut self.buffer).and_then(|filled| {
            let now = clock::now();
            connection.read(&self.buffer[..filled], |frame| {
                dialect.hear(frame, PAYLOAD_BYTES, |heard| match heard {
                    Heard::Message(stamp) if stamp.run == RUN => {
                        let from_hall = usize::from(stamp.publisher as usize == rooms);
                        self.seen[index][from_hall].deliver(stamp.sequence);
                        self.kept.deliveries += 1;
                        latency.record(stamp.sent_ns, now);
                    }
                    Heard::Answer(GREETED_ID | HALL_ID, Answer::Yes) => {
                        self.awaited = self.awaited.saturating_sub(1);
                    }
                    Heard::Ping => pings += 1,
                    // What attackers publish, or an answer: what is refused is missed in the end.
                    _ => {}
                });
            })
        });
        drop(latency);
        if let Err(ending) = received {
            return self.end(index, ending);
        }
        if let (true, Some(encoding)) = (pings > 0, dialect.encoding()) {
            let mut frame = Vec::new();
            encoding.put(&mut frame, 0, Command::Pong);
            if let Some(connection) = &mut self.connections[index] {
                connection.queue(encoding.opcode(), &frame, MASK);
            }
            self.flush(index);
        }
    }

    fn flush(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        if let Err(ending) = connection.flush_watched(&self.epoll, index) {
            self.end(index, ending);
        }
    }

    fn end(&mut self, index: usize, ending: Ending) {
        if self.connections[index].take().is_some() {
            *self.kept.closed.entry(ending).or_default() += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client speaks: those of the last room the plain dialect.
fn dialect(index: usize, rooms: usize) -> Dialect {
    if index % rooms == rooms - 1 { Dialect::Plain } else { Dialect::CentrifugeJson }
}

fn room(number: usize) -> String {
    format!("room-{number}")
}

/// The channel that all good clients are in.
pub(super) const HALL: &str = "hall";

/// The answers to connect and room have lower ids.
const HALL_ID: u32 = 0x7FFF;
const CLIENTS_PER_ROOM: usize = 5;
const ROOMS_MAX: usize = 10;
/// Of each room's publisher and of the hall's.
const PUBLISH_EVERY_NS: u64 = SECOND / 20;
const PAYLOAD_BYTES: usize = 64;
const RUN: u32 = 1;
const OPENING: usize = 64;
const GATHERING_NS: u64 = 10 * SECOND;
/// So long nothing has to come before what is missing counts as lost, and not as late.
const DRAIN_NS: u64 = 10 * SECOND;
const BUFFER_BYTES: usize = 256 * 1024;
const MASK: [u8; 4] = [0x1D, 0x80, 0x4B, 0xE2];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_counts_where_it_was_due() {
        let mut latency = Latency::new();
        latency.phases.push((1_000_000, histogram::new()));
        latency.record(999_999, 5_000_000);
        latency.record(1_000_000, 5_000_000);
        latency.record(2_000_000, 5_000_000);
        let counts: Vec<_> = latency.phases.iter().map(|(_, phase)| phase.len()).collect();
        assert_eq!((counts, latency.window.len()), (vec![1, 2], 3));
    }
}
