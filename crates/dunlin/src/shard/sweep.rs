//! The sweep: once a second, what has to happen at some time but not at once. One timer per shard
//! instead of one per connection.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use dunlin_core::error::Disconnect;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Shard;
use crate::connection::Connection;

/// Time between two sweeps.
const TICK: Duration = Duration::from_secs(1);

impl Shard {
    /// Sweeps for ever.
    pub(super) async fn sweep(self: Rc<Self>) {
        let ping = dunlin_ws::ping_frame(b"");
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0.. {
            ticks.tick().await;
            self.ping(number, &ping);
            self.give_up_seats();
            self.tally.flush();
        }
    }

    /// Pings the share of the connections whose turn it is, and ends those that were pinged
    /// `pong_timeout` ago and have been silent since. Spreads the pings over the interval.
    fn ping(self: &Rc<Self>, number: u64, ping: &Bytes) {
        let interval = ticks_in(self.parts.ping_interval);
        let timeout = ticks_in(self.parts.pong_timeout);
        if interval == 0 {
            return;
        }
        if number >= timeout {
            for connection in self.every_nth(number - timeout, interval) {
                if connection.is_quiet() {
                    self.end(&connection, Disconnect::PongTimeout);
                }
            }
        }
        for connection in self.every_nth(number, interval) {
            // What waits in a backlog is a question already, and has an age of its own.
            if connection.backlog_bytes() == 0 && connection.ending().is_none() {
                connection.expect_sign_of_life();
                self.write(&connection, ping);
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
    fn give_up_seats(&self) {
        let now = Instant::now();
        let is_forlorn = |connection: &Connection| {
            connection.stream().is_none() && now - connection.reserved_at() > self.parts.seat_age
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
