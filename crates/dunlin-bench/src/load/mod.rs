//! The load: opens connections, publishes at a pace, checks and times every delivery. One thread.

mod dialect;
mod plan;
mod seen;
mod tally;

use anyhow::{Result, bail};

use self::seen::Seen;
pub(crate) use self::{
    dialect::{Answer, Dialect, GREETED_ID, Heard, PUBLISH_ID},
    plan::{Pace, Plan},
    tally::Tally,
};
use crate::{
    centrifuge::Command,
    checker::Checker,
    clock::{self, SECOND},
    connection::{Connection, Ending},
    epoll::Epoll,
    open::{self, Opening},
    payload::Stamp,
    report::{by_name, counts},
    websocket,
};

/// The opened connections of one process and what they have seen.
pub(crate) struct Load {
    plan: Plan,
    epoll: Epoll,
    buffer: Box<[u8]>,
    /// By number within this process; `None` once ended, or if never opened.
    connections: Vec<Option<Connection>>,
    checker: Checker,
    publishers: Vec<Publisher>,
    /// Scratch: whose messages have arrived everywhere in this turn.
    settled: Vec<u32>,
    /// Open loop: when the first message was due, and how many have gone out.
    pace_started: u64,
    pace_count: u64,
    payload: Vec<u8>,
    /// Connections the server has yet to greet.
    awaited: usize,
    seen: Seen,
}

/// A connection that publishes.
#[derive(Clone, Default)]
struct Publisher {
    sent: u32,
    /// Messages that have arrived everywhere.
    settled: u32,
}

impl Load {
    /// Opens all connections of this process; the ones that fail are counted, not fatal.
    pub(crate) fn open(plan: Plan) -> Result<Self> {
        open::allow_connections(plan.own.len())?;
        let wanted =
            plan.own.clone().map(|number| (number, plan.target(number), plan.path(number)));
        let Opening { opened, failures, .. } = open::open(wanted, plan.concurrency)?;
        if opened.is_empty() {
            bail!("no connection could be opened: {}", counts(&by_name(failures)));
        }

        let channels: Vec<u32> = plan.own.clone().map(|number| plan.channel(number)).collect();
        let publishers: Vec<u32> =
            (0..plan.publishers).map(|number| plan.channel(number)).collect();
        let mut load = Self {
            epoll: Epoll::new()?,
            buffer: vec![0; BUFFER_BYTES].into(),
            connections: plan.own.clone().map(|_| None).collect(),
            checker: Checker::new(plan.channel_count() as usize, &channels, &publishers),
            publishers: vec![Publisher::default(); plan.own_publishers()],
            settled: Vec::new(),
            pace_started: 0,
            pace_count: 0,
            payload: vec![b'.'; plan.size],
            awaited: 0,
            seen: Seen::new(opened.len() as u64, failures),
            plan,
        };
        for opened in opened {
            let index = opened.number - load.plan.own.start;
            load.epoll.add_readable(&opened.socket, index)?;
            load.connections[index] = Some(Connection::new(opened.socket, opened.leftover));
        }
        load.greet()?;
        for index in 0..load.connections.len() {
            match &load.connections[index] {
                Some(connection) if load.is_stalled(index) => {
                    load.epoll.remove(connection.socket())?;
                    load.checker.leave(index);
                }
                // Frames that came right behind the 101 make no socket readable again.
                Some(_) => load.receive(index),
                None => load.checker.leave(index),
            }
        }
        Ok(load)
    }

    /// Connects and subscribes where the dialect asks for it, and waits for the answers.
    fn greet(&mut self) -> Result<()> {
        let Some(encoding) = self.plan.dialect.encoding() else { return Ok(()) };
        for index in 0..self.connections.len() {
            let channel = self.plan.channel_name(self.plan.own.start + index);
            let Some(connection) = &mut self.connections[index] else { continue };
            let greeting = self.plan.dialect.greeting(Some(&channel));
            connection.queue(encoding.opcode(), &greeting, MASK);
            self.awaited += 1;
            self.flush(index);
        }
        let patience = clock::now() + GREETING_NS;
        while self.awaited > 0 {
            if clock::now() > patience {
                bail!("{} connections got no subscription", self.awaited);
            }
            self.listen(SECOND / 100)?;
        }
        Ok(())
    }

    /// Publishes and receives until `deadline` (`clock::now`) without measuring.
    pub(crate) fn warm_up(&mut self, deadline: u64) -> Result<()> {
        self.pace_started = clock::now();
        for number in 0..self.publishers.len() {
            self.fill_window(number);
        }
        self.serve_until(deadline, Publish::Yes, &mut || Ok(()))
    }

    /// Publishes, receives and measures until `deadline`; calls `on_tick` ten times a second.
    pub(crate) fn measure(
        &mut self,
        deadline: u64,
        mut on_tick: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        self.seen.start_measuring()?;
        self.serve_until(deadline, Publish::Yes, &mut on_tick)?;
        self.seen.stop_measuring()
    }

    /// Receives for `nanoseconds` and publishes nothing.
    pub(crate) fn listen(&mut self, nanoseconds: u64) -> Result<()> {
        self.serve_until(clock::now() + nanoseconds, Publish::No, &mut || Ok(()))
    }

    /// Receives what is still on its way: until nothing is missing, or nothing has come for three
    /// seconds; and a little longer, for what comes twice. `sent` as in `Checker::missing`.
    pub(crate) fn drain(&mut self, sent: &[Option<u32>]) -> Result<()> {
        let (mut deliveries, mut patience) = (0, 0);
        while self.checker.missing(sent) > 0 {
            if self.seen.deliveries != deliveries || patience == 0 {
                (deliveries, patience) = (self.seen.deliveries, clock::now() + 3 * SECOND);
            } else if clock::now() > patience {
                break;
            }
            self.listen(SECOND / 50)?;
        }
        self.listen(SECOND / 5)
    }

    /// Messages sent so far by all publishers of this process.
    pub(crate) fn published(&self) -> u64 {
        self.publishers.iter().map(|publisher| u64::from(publisher.sent)).sum()
    }

    /// Messages sent by each publisher; `None` for one whose connection has ended.
    pub(crate) fn sent(&self) -> Vec<Option<u32>> {
        let alive = |index: usize| self.connections[index].is_some();
        let publishers = self.publishers.iter().enumerate();
        publishers.map(|(index, publisher)| alive(index).then_some(publisher.sent)).collect()
    }

    /// Lets the stalled connections read again, until all have ended or three seconds have passed.
    pub(crate) fn wake_stalled(&mut self) -> Result<()> {
        let stalled: Vec<usize> =
            (0..self.connections.len()).filter(|&index| self.is_stalled(index)).collect();
        for &index in &stalled {
            if let Some(connection) = &self.connections[index] {
                self.epoll.add_readable(connection.socket(), index)?;
            }
        }
        let patience = clock::now() + 3 * SECOND;
        let open = |load: &Self| stalled.iter().any(|&index| load.connections[index].is_some());
        while open(self) && clock::now() < patience {
            self.listen(SECOND / 10)?;
        }
        Ok(())
    }

    /// Closes all connections and says what was seen. `sent` as in `Checker::missing`.
    pub(crate) fn finish(self, sent: &[Option<u32>]) -> Tally {
        let still_stalled = (0..self.connections.len())
            .filter(|&index| self.is_stalled(index) && self.connections[index].is_some())
            .count();
        self.connections.into_iter().flatten().for_each(Connection::close);
        self.seen.into_tally(&self.checker, sent, still_stalled as u64)
    }

    fn serve_until(
        &mut self,
        deadline: u64,
        publish: Publish,
        on_tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut tick = clock::now() + TICK_NS;
        loop {
            let mut wake = deadline.min(tick);
            let now = clock::now();
            self.count_settled();
            if publish == Publish::Yes {
                wake = wake.min(self.publish_due(now));
            }
            if now >= deadline {
                return Ok(());
            }
            if now >= tick {
                on_tick()?;
                tick = now + TICK_NS;
            }
            self.epoll.wait(Some(wake))?;
            for index in 0..self.epoll.ready_count() {
                let Some(ready) = self.epoll.ready(index) else { continue };
                if ready.writable {
                    self.flush(ready.token);
                }
                if ready.readable {
                    self.receive(ready.token);
                }
            }
        }
    }

    /// Notes whose messages have arrived everywhere; `settled` then names those publishers.
    fn count_settled(&mut self) {
        self.settled.clear();
        self.checker.take_settled(&mut self.settled);
        for &number in &self.settled {
            // Publishers of the first load process are unknown to the others.
            if let Some(publisher) = self.publishers.get_mut(number as usize) {
                publisher.settled += 1;
            }
        }
    }

    /// Publishes what is due at `now`; says when the next message will be.
    fn publish_due(&mut self, now: u64) -> u64 {
        match self.plan.pace {
            Pace::Window(_) => {
                let mut settled = std::mem::take(&mut self.settled);
                for number in settled.drain(..) {
                    self.fill_window(number as usize);
                }
                self.settled = settled;
                u64::MAX
            }
            Pace::Rate(_) if self.publishers.is_empty() => u64::MAX,
            Pace::Rate(per_second) => loop {
                let due = (self.pace_count as f64 / per_second * SECOND as f64) as u64;
                let due = self.pace_started + due;
                if due > now {
                    return due;
                }
                // Stamped with the time it was due: our own lateness is latency, too.
                let number = (self.pace_count % self.publishers.len() as u64) as usize;
                self.publish(number, 1, due);
                self.pace_count += 1;
            },
        }
    }

    fn fill_window(&mut self, number: usize) {
        let Pace::Window(window) = self.plan.pace else { return };
        let Some(&Publisher { sent, settled }) = self.publishers.get(number) else { return };
        self.publish(number, window.saturating_sub(sent - settled), clock::now());
    }

    /// Sends `count` messages of one publisher in one write.
    fn publish(&mut self, number: usize, count: u32, sent_ns: u64) {
        if count == 0 {
            return;
        }
        let Some(connection) = &mut self.connections[number] else { return };
        let publisher = &mut self.publishers[number];
        let channel = self.plan.channel_name(number);
        let (encoding, mut frame) = (self.plan.dialect.encoding(), Vec::new());
        let mask = (sent_ns as u32 ^ publisher.sent).wrapping_mul(0x9E37_79B1).to_ne_bytes();
        for _ in 0..count {
            let (run, sequence) = (self.plan.run, publisher.sent);
            let stamp = Stamp { run, publisher: number as u32, sequence, sent_ns };
            stamp.write(&mut self.payload);
            match encoding {
                None => connection.queue(websocket::TEXT, &self.payload, mask),
                Some(encoding) => {
                    let data = &String::from_utf8_lossy(&self.payload);
                    let command = Command::Publish { channel: &channel, data };
                    encoding.put(&mut frame, PUBLISH_ID, command);
                }
            }
            publisher.sent += 1;
        }
        if let Some(encoding) = encoding {
            connection.queue(encoding.opcode(), &frame, mask);
        }
        self.flush(number);
    }

    fn flush(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        if let Err(ending) = connection.flush_watched(&self.epoll, index) {
            self.end(index, ending);
        }
    }

    #[inline]
    fn receive(&mut self, index: usize) {
        let stalled = self.is_stalled(index);
        let Self { connections, buffer, checker, seen, plan, awaited, .. } = self;
        let Some(connection) = &mut connections[index] else { return };
        let mut pings = 0;
        let received = connection.receive(buffer).and_then(|filled| {
            let now = clock::now();
            connection.read(&buffer[..filled], |frame| {
                plan.dialect.hear(frame, plan.size, |heard| match heard {
                    Heard::Message(stamp) if stamp.run == plan.run => {
                        if !stalled {
                            checker.deliver(index, stamp.publisher, stamp.sequence);
                            seen.delivery(now, stamp.sent_ns);
                        }
                    }
                    Heard::Answer(GREETED_ID, Answer::Yes) => {
                        *awaited = awaited.saturating_sub(1);
                    }
                    Heard::Answer(_, Answer::Yes) => {}
                    Heard::Ping => pings += 1,
                    _ => seen.foreign += 1,
                });
            })
        });
        match received {
            Ok(more) => seen.pings += pings + more,
            Err(ending) => return self.end(index, ending),
        }
        if pings > 0 {
            self.pong(index);
        }
    }

    /// Answers a ping of the dialect.
    fn pong(&mut self, index: usize) {
        let Some(encoding) = self.plan.dialect.encoding() else { return };
        let Some(connection) = &mut self.connections[index] else { return };
        let mut frame = Vec::new();
        encoding.put(&mut frame, 0, Command::Pong);
        connection.queue(encoding.opcode(), &frame, MASK);
        self.flush(index);
    }

    fn end(&mut self, index: usize, ending: Ending) {
        if self.connections[index].take().is_some() {
            self.checker.leave(index);
            let stalled = self.is_stalled(index);
            let endings = if stalled { &mut self.seen.stalled } else { &mut self.seen.closed };
            *endings.entry(ending).or_default() += 1;
        }
    }

    fn is_stalled(&self, index: usize) -> bool {
        self.plan.own.start + index >= self.plan.connections - self.plan.stalled
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Publish {
    Yes,
    No,
}

const BUFFER_BYTES: usize = 256 * 1024;
const TICK_NS: u64 = SECOND / 10;
/// How long to wait for all subscriptions.
const GREETING_NS: u64 = 10 * SECOND;
const MASK: [u8; 4] = [0x5C, 0x11, 0xE7, 0x90];
