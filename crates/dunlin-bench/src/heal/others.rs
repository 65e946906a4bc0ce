//! Channels that are none of a row's trouble: how long their deliveries take meanwhile.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

use super::{
    client::{Ask, Client},
    join,
};
use crate::clock;

/// A subscriber of some channels on one node and their publisher on another.
pub(super) struct Others {
    shared: Arc<Shared>,
    tasks: [JoinHandle<Result<()>>; 2],
}

#[derive(Default)]
struct Shared {
    flows: AtomicBool,
    stopped: AtomicBool,
    /// Nanoseconds from the publish to the delivery.
    times: Mutex<Vec<u64>>,
}

impl Others {
    pub(super) fn start(node: SocketAddr, other: SocketAddr) -> Result<Self> {
        let mut reader = Client::connect(node)?;
        reader.subscribe_all((0..CHANNELS).map(name))?;
        let publisher = Client::connect(other)?;
        let shared = Arc::new(Shared::default());
        let tasks = [
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || shared.read(reader)
            }),
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || shared.publish(publisher)
            }),
        ];
        Ok(Self { shared, tasks })
    }

    /// From now on something is published to them, or nothing.
    pub(super) fn set_flow(&self, flows: bool) {
        self.shared.flows.store(flows, Ordering::Relaxed);
    }

    /// What came since the last time: nanoseconds each.
    pub(super) fn take_times(&self) -> Vec<u64> {
        std::mem::take(&mut *self.shared.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn stop(self) -> Result<()> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        join(self.tasks)
    }
}

impl Shared {
    fn read(&self, mut reader: Client) -> Result<()> {
        while !self.stopped.load(Ordering::Relaxed) {
            for push in reader.pushes(Duration::ZERO)? {
                let sent = push.publication.and_then(|it| it.data.parse::<u64>().ok());
                if let Some(sent) = sent {
                    let time = clock::now() - sent;
                    self.times.lock().unwrap_or_else(PoisonError::into_inner).push(time);
                }
            }
        }
        Ok(())
    }

    fn publish(&self, mut publisher: Client) -> Result<()> {
        let mut channels = (0..CHANNELS).cycle();
        while !self.stopped.load(Ordering::Relaxed) {
            if self.flows.load(Ordering::Relaxed) {
                let channel = name(channels.next().unwrap_or_default());
                let publish = Ask::Publish(channel, clock::now().to_string());
                publisher.ask_all([publish], 1, drop)?;
            } else {
                // Pings want answers.
                publisher.pushes(Duration::ZERO)?;
            }
            thread::sleep(EVERY);
        }
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("other-{number}")
}

/// The value that 99 of 100 do not exceed, in milliseconds; none of nothing.
pub(super) fn p99_ms(mut times: Vec<u64>) -> f64 {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).map_or(f64::NAN, |&time| time as f64 / 1e6)
}

const CHANNELS: usize = 20;
const EVERY: Duration = Duration::from_millis(5);
