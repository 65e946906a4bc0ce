//! The sweep: once a second, what has to happen at some time but not at once. One timer per shard
//! instead of one per connection.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use dunlin_core::{error::Disconnect, event::Event, publication::Encoding};
use dunlin_protocol::centrifuge;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Shard;
use crate::{backlog::Cause, connection::Connection};

/// Time between two sweeps.
const TICK: Duration = Duration::from_secs(1);

/// One way to ask clients whether they are still there.
struct Pinger {
    /// Ticks between two pings; 0 = never.
    interval: u64,
    /// Ticks from a ping to the latest sign of life.
    timeout: u64,
    pings: Pings,
}

enum Pings {
    /// A frame of the WebSocket protocol, that every client's library answers by itself.
    Frame(Bytes),
    /// A message of the Centrifuge protocol.
    Message { json: Bytes, protobuf: Bytes },
}

impl Pinger {
    fn by_frames(shard: &Shard) -> Self {
        let pings = Pings::Frame(dunlin_ws::ping_frame(b""));
        let parts = &shard.parts;
        let (interval, timeout) = (ticks_in(parts.ping_interval), ticks_in(parts.pong_timeout));
        Self { interval, timeout, pings }
    }

    fn by_messages(shard: &Shard) -> Self {
        let ping = |encoding| {
            let mut message = Vec::new();
            centrifuge::write_event(encoding, &Event::Ping, &mut message);
            shard.encoder.message(centrifuge::message_kind(encoding), &message, false)
        };
        let (json, protobuf) = (ping(Encoding::Json), ping(Encoding::Protobuf));
        let policy = shard.policy();
        let (interval, timeout) = (ticks_in(policy.ping_interval), ticks_in(policy.pong_timeout));
        Self { interval, timeout, pings: Pings::Message { json, protobuf } }
    }

    fn is_for(&self, connection: &Connection) -> bool {
        let session = connection.session().map(|session| session.borrow());
        let by_messages = session.as_ref().is_some_and(|session| session.is_pinged_by_messages());
        match self.pings {
            Pings::Frame(_) => !by_messages,
            Pings::Message { .. } => {
                by_messages && session.is_some_and(|session| session.is_connected())
            }
        }
    }

    /// The ping in the connection's encoding, noted as sent.
    fn ping(&self, connection: &Connection) -> &Bytes {
        match (&self.pings, connection.session()) {
            (Pings::Frame(ping), _) | (Pings::Message { json: ping, .. }, None) => ping,
            (Pings::Message { json, protobuf }, Some(session)) => {
                session.borrow_mut().note_ping();
                match session.borrow().encoding() {
                    Encoding::Json => json,
                    Encoding::Protobuf => protobuf,
                }
            }
        }
    }
}

impl Shard {
    /// Sweeps for ever.
    pub(super) async fn sweep(self: Rc<Self>) {
        let by_frames = Pinger::by_frames(&self);
        let by_messages = Pinger::by_messages(&self);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0.. {
            ticks.tick().await;
            self.ping(number, &by_frames);
            self.ping(number, &by_messages);
            self.wake_due();
            self.give_up_seats();
            self.closes().record_left_out();
            self.tally.flush();
        }
    }

    /// Pings the share of a pinger's connections whose turn it is, and ends those that were pinged
    /// its timeout ago and have been silent since. Spreads the pings over the interval.
    fn ping(self: &Rc<Self>, number: u64, pinger: &Pinger) {
        let (interval, timeout) = (pinger.interval, pinger.timeout);
        if interval == 0 {
            return;
        }
        if number >= timeout {
            for connection in self.every_nth(number - timeout, interval) {
                if pinger.is_for(&connection) && connection.is_quiet() {
                    self.end(&connection, Disconnect::PongTimeout);
                }
            }
        }
        for connection in self.every_nth(number, interval) {
            // What waits in a backlog is a question already, and has an age of its own.
            let is_idle = connection.backlog_bytes() == 0 && connection.ending().is_none();
            if is_idle && pinger.is_for(&connection) {
                connection.expect_sign_of_life();
                self.write(&connection, pinger.ping(&connection), Cause::Pushed);
            }
        }
    }

    /// The connected ones among the slots whose turn comes at tick `number` of `interval` ticks.
    fn every_nth(&self, number: u64, interval: u64) -> Vec<Rc<Connection>> {
        let connections = self.connections.borrow();
        let (first, step) = ((number % interval) as usize, interval as usize);
        let end = connections.iter().next_back().map_or(0, |(last, _)| last + 1);
        (first..end)
            .step_by(step)
            .filter_map(|slot| connections.get(slot))
            .filter(|connection| connection.stream().is_some())
            .cloned()
            .collect()
    }

    /// Gives up seats whose client went away between its request and its 101.
    fn give_up_seats(self: &Rc<Self>) {
        // Usually there is none, and to look at every connection would wake all of their memory.
        if self.seats.get() == 0 {
            return;
        }
        let is_forlorn = |connection: &Connection| {
            connection.stream().is_none() && self.age_of(connection) > self.parts.seat_age
        };
        let forlorn: Vec<_> = {
            let connections = self.connections.borrow();
            let seats = connections.iter().map(|(_, connection)| connection);
            seats.filter(|connection| is_forlorn(connection)).cloned().collect()
        };
        for seat in forlorn {
            self.remove(&seat, Disconnect::ClientLeft);
        }
    }

    /// Ends all connections, evenly spread over `over`, and waits until they are gone.
    pub(super) async fn leave(self: Rc<Self>, over: Duration) {
        self.is_leaving.set(true);
        let began_at = Instant::now();
        // A seat is closed when it gets its socket.
        let all = self.every_nth(0, 1);
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        for (number, connection) in (0..).zip(&all) {
            sleep_until(began_at + over * number / count).await;
            self.end(connection, Disconnect::NodeLeaving);
        }
        drop(all);
        while !self.connections.borrow().is_empty() {
            self.removed.notified().await;
        }
    }
}

fn ticks_in(time: Duration) -> u64 {
    time.as_secs_f64().ceil() as u64
}
