//! All attackers of a pattern on one thread, until their time is up. Nobody is spared but this
//! machine: they yield to everybody else, so that what is measured is the server's trouble.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::Result;
use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::process::setpriority_process;

use super::{
    attacker::{Attacker, How, Stage},
    pattern::{Band, Next, Opening, Reads},
};
use crate::{
    clock::{self, SECOND, nanoseconds},
    epoll::Epoll,
    report::{by_name, counts},
};

/// What became of the attackers.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) how: BTreeMap<How, u64>,
    /// Errors that commands were answered with, by code.
    pub(super) refusals: BTreeMap<u32, u64>,
    pub(super) sent_bytes: u64,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", counts(&by_name(self.how.clone())))?;
        if !self.refusals.is_empty() {
            write!(out, "; errors {}", counts(&by_name(self.refusals.clone())))?;
        }
        write!(out, "; {:.1} MB sent", self.sent_bytes as f64 / 1e6)
    }
}

/// Lets the bands attack, from addresses 127.0.`network`.x, until the clock shows `until`.
pub(super) fn attack(
    address: SocketAddr,
    network: u8,
    bands: Vec<Band>,
    until: u64,
) -> Result<Ended> {
    // Of this thread only. A machine that does not allow it measures its own rush, too.
    let _ = setpriority_process(None, NICENESS);
    let places = bands.iter().enumerate();
    let places: Vec<Place> = places
        .flat_map(|(band, it)| (0..it.count).map(move |number| Place { band, number }))
        .collect();
    let mut mob = Mob {
        address,
        network,
        epoll: Epoll::new()?,
        wanted: (0..places.len()).collect(),
        attackers: places.iter().map(|_| None).collect(),
        places,
        bands,
        due: BinaryHeap::new(),
        opened: 0,
        opening: 0,
        buffer: vec![0; 64 * 1024],
        ended: Ended::default(),
    };
    while clock::now() < until {
        mob.turn(until)?;
    }
    Ok(mob.finish())
}

struct Mob {
    address: SocketAddr,
    network: u8,
    epoll: Epoll,
    bands: Vec<Band>,
    places: Vec<Place>,
    /// By place; `None` before it is opened and when it has ended.
    attackers: Vec<Option<Attacker>>,
    /// Places whose attackers are to be opened.
    wanted: VecDeque<usize>,
    /// When which place is asked again, and for whom.
    due: BinaryHeap<Reverse<(u64, usize, u64)>>,
    opened: u64,
    /// Attackers that have not what they want yet.
    opening: usize,
    buffer: Vec<u8>,
    ended: Ended,
}

/// Which attacker of which band.
#[derive(Clone, Copy)]
struct Place {
    band: usize,
    number: usize,
}

impl Mob {
    fn turn(&mut self, until: u64) -> Result<()> {
        let now = clock::now();
        for _ in 0..self.wanted.len().min(OPENED_PER_TURN) {
            if self.opening >= OPENING_MAX {
                break;
            }
            if let Some(place) = self.wanted.pop_front() {
                self.open(place)?;
            }
        }
        while let Some(&Reverse((due, place, serial))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            if let Some(attacker) = &mut self.attackers[place]
                && attacker.serial == serial
            {
                attacker.rests = false;
                self.ask(place)?;
            }
        }
        let next = self.due.peek().map_or(until, |&Reverse((due, ..))| due.min(until));
        let busy = !self.wanted.is_empty() && self.opening < OPENING_MAX;
        self.epoll.wait(Some(if busy { now + SECOND / 1000 } else { next }))?;
        for index in 0..self.epoll.ready_count() {
            let Some(ready) = self.epoll.ready(index) else { continue };
            if ready.readable {
                self.receive(ready.token)?;
            }
            if ready.writable {
                self.write(ready.token)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, place: usize) -> Result<()> {
        let host = 2 + (self.opened / PORTS_PER_SOURCE % 250) as u8;
        let source = Ipv4Addr::new(127, 0, self.network, host);
        self.opened += 1;
        let reads = self.bands[self.places[place].band].reads;
        let buffer = (reads != Reads::All).then_some(RECEIVE_BUFFER_MIN);
        match Attacker::start(self.opened, source, self.address, buffer) {
            Ok(attacker) => {
                self.epoll.add_writable(&attacker.socket, place)?;
                self.opening += 1;
                self.attackers[place] = Some(attacker);
            }
            Err(how) => self.count(place, how),
        }
        Ok(())
    }

    /// The socket takes bytes: of what is left, or more.
    fn write(&mut self, place: usize) -> Result<()> {
        let Some(attacker) = &mut self.attackers[place] else { return Ok(()) };
        if attacker.stage == Stage::Connecting {
            if let Err(how) = attacker.connected() {
                self.end(place, how);
                return Ok(());
            }
            match &self.bands[self.places[place].band].opening {
                Opening::Raw => {
                    attacker.stage = Stage::Raw;
                    self.opening -= 1;
                    return self.ask(place);
                }
                Opening::Upgraded { path, headers, .. } => {
                    attacker.outgoing = upgrade_request(self.address, path, headers);
                    attacker.stage = Stage::Upgrading;
                }
            }
        }
        self.flush(place);
        let Some(attacker) = &self.attackers[place] else { return Ok(()) };
        let at_work = matches!(attacker.stage, Stage::Raw | Stage::Upgraded);
        if at_work && !attacker.rests { self.ask(place) } else { self.watch(place) }
    }

    /// Asks for what is sent next, until the socket takes no more or it is enough.
    fn ask(&mut self, place: usize) -> Result<()> {
        let Place { band, number } = self.places[place];
        for _ in 0..ROUNDS_PER_TURN {
            let Some(attacker) = &mut self.attackers[place] else { return Ok(()) };
            if attacker.rests || !attacker.outgoing.is_empty() {
                break;
            }
            let band = &mut self.bands[band];
            let next = (band.feed)(number, attacker.rounds, &mut attacker.outgoing);
            attacker.rounds += 1;
            match next {
                Next::AtOnce | Next::Leave => {}
                Next::In(time) => {
                    let due = clock::now() + nanoseconds(time);
                    self.due.push(Reverse((due, place, attacker.serial)));
                    attacker.rests = true;
                }
                Next::Never => attacker.rests = true,
            }
            let sips = if let Reads::Sips(bytes) = band.reads { bytes } else { 0 };
            self.flush(place);
            self.sip(place, sips);
            if next == Next::Leave {
                self.end(place, How::Left);
            }
        }
        self.watch(place)
    }

    fn flush(&mut self, place: usize) {
        let Some(attacker) = &mut self.attackers[place] else { return };
        match attacker.flush() {
            Ok(sent) => self.ended.sent_bytes += sent as u64,
            // What the server said before it closed is worth more than that it closed.
            Err(how) => {
                let how = self.last_words(place).unwrap_or(how);
                self.end(place, how);
            }
        }
    }

    fn receive(&mut self, place: usize) -> Result<()> {
        let Some(attacker) = &mut self.attackers[place] else { return Ok(()) };
        if attacker.stage == Stage::Connecting {
            return Ok(());
        }
        let was_upgrading = attacker.stage == Stage::Upgrading;
        let refusals = &mut self.ended.refusals;
        let on_refusal = |code| *refusals.entry(code).or_default() += 1;
        if let Err(how) = attacker.receive(&mut self.buffer, on_refusal) {
            self.end(place, how);
            return Ok(());
        }
        if was_upgrading && attacker.stage == Stage::Upgraded {
            self.opening -= 1;
            let Place { band, number } = self.places[place];
            if let Opening::Upgraded { greeting, .. } = &self.bands[band].opening {
                attacker.outgoing = greeting(number);
            }
            return self.write(place);
        }
        Ok(())
    }

    /// Reads a little of what waits.
    fn sip(&mut self, place: usize, bytes: usize) {
        let Some(attacker) = &mut self.attackers[place] else { return };
        if bytes > 0
            && let Err(how) = attacker.receive(&mut self.buffer[..bytes], |_| {})
        {
            self.end(place, how);
        }
    }

    /// How the server ended this one, found behind what it has not read yet.
    fn last_words(&mut self, place: usize) -> Option<How> {
        let attacker = self.attackers[place].as_mut()?;
        let mut read = 0;
        while read < LAST_BYTES {
            match attacker.receive(&mut self.buffer, |_| {}) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(how) => return Some(how),
            }
        }
        None
    }

    /// Has the epoll watch for what this one waits for.
    fn watch(&mut self, place: usize) -> Result<()> {
        let Some(attacker) = &mut self.attackers[place] else { return Ok(()) };
        let reads = self.bands[self.places[place].band].reads == Reads::All;
        let upgrading = attacker.stage == Stage::Upgrading;
        let writes = !attacker.outgoing.is_empty() || !(attacker.rests || upgrading);
        let wanted = (reads || upgrading, writes);
        if attacker.watched != wanted {
            attacker.watched = wanted;
            self.epoll.watch_for(&attacker.socket, place, wanted.0, wanted.1)?;
        }
        Ok(())
    }

    fn end(&mut self, place: usize, how: How) {
        let Some(attacker) = self.attackers[place].take() else { return };
        if matches!(attacker.stage, Stage::Connecting | Stage::Upgrading) {
            self.opening -= 1;
        }
        self.count(place, how);
    }

    fn count(&mut self, place: usize, how: How) {
        *self.ended.how.entry(how).or_default() += 1;
        if self.bands[self.places[place].band].again {
            self.wanted.push_back(place);
        }
    }

    /// Time is up: whoever is still there reads what it did not, says how it is, and goes.
    fn finish(mut self) -> Ended {
        let never_opened = self.wanted.len() as u64;
        if never_opened > 0 {
            *self.ended.how.entry(How::Waiting).or_default() += never_opened;
        }
        for place in 0..self.attackers.len() {
            let words = self.last_words(place);
            if let Some(attacker) = self.attackers[place].take() {
                *self.ended.how.entry(words.unwrap_or(attacker.still())).or_default() += 1;
            }
        }
        self.ended
    }
}

fn upgrade_request(address: SocketAddr, path: &str, headers: &str) -> Vec<u8> {
    let key = BASE64_STANDARD.encode(fastrand::u128(..).to_be_bytes());
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
    )
    .into_bytes()
}

const NICENESS: i32 = 5;
/// Connections on their way at once.
const OPENING_MAX: usize = 256;
const OPENED_PER_TURN: usize = 32;
const ROUNDS_PER_TURN: usize = 4;
/// Each address has some 28,000, which a storm uses up for a minute; finding the last takes long.
const PORTS_PER_SOURCE: u64 = 8_000;
/// The kernel doubles it, and has its own least.
const RECEIVE_BUFFER_MIN: usize = 2048;
/// What a server's and a client's kernel may hold of one connection, and more.
const LAST_BYTES: usize = 16 << 20;
