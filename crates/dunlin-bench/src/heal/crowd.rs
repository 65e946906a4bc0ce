//! Clients that are subscribed to very many channels of one node, and note what comes.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow};

use super::{client::Client, join, progress};
use crate::{centrifuge::Push, clock};

/// The clients, each on a thread of its own.
pub(super) struct Crowd {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    subscribed: AtomicUsize,
    /// How many clients have all their channels, and who waits for that.
    gathered: Mutex<usize>,
    one_more: Condvar,
    seen: Mutex<Vec<(u64, Push)>>,
}

impl Crowd {
    /// Subscribes to so many channels, `name(0)` and so on, each by one client; and several clients
    /// to the `wanted` ones, last.
    pub(super) fn gather(node: SocketAddr, channels: usize, wanted: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let clients = channels.div_ceil(CHANNELS_PER_CLIENT);
        let task = |client: usize| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let first = client * CHANNELS_PER_CLIENT;
                let own = first..channels.min(first + CHANNELS_PER_CLIENT);
                let wanted = if client < CLIENTS_PER_WANTED { wanted } else { 0 };
                shared.wait_for_turn(client);
                shared.follow(Client::connect(node)?, own, wanted)
            })
        };
        let tasks: Vec<_> = (0..clients).map(task).collect();
        let mut said = clock::now();
        while *lock(&shared.gathered) < clients && !tasks.iter().any(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(50));
            if clock::now() - said > 5 * clock::SECOND {
                said = clock::now();
                let subscribed = shared.subscribed.load(Ordering::Relaxed);
                progress(&format!("{subscribed} of {channels} channels subscribed to"));
            }
        }
        let crowd = Self { shared, tasks };
        if *lock(&crowd.shared.gathered) < clients {
            crowd.stop()?;
            return Err(anyhow!("the clients did not gather"));
        }
        Ok(crowd)
    }

    /// What came since the last time, and when.
    pub(super) fn take_seen(&self) -> Vec<(u64, Push)> {
        std::mem::take(&mut *lock(&self.shared.seen))
    }

    pub(super) fn stop(self) -> Result<()> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Nobody is between its look at `stopped` and its wait.
        drop(lock(&self.shared.gathered));
        self.shared.one_more.notify_all();
        join(self.tasks)
    }
}

impl Shared {
    /// Waits until few enough gather: a node whose clients ask for more in one moment than two
    /// cores can do within the 5 s of a subscription has to refuse some.
    fn wait_for_turn(&self, client: usize) {
        let is_early = |gathered: &mut usize| {
            client >= *gathered + GATHERING_MAX && !self.stopped.load(Ordering::Relaxed)
        };
        drop(self.one_more.wait_while(lock(&self.gathered), is_early));
    }

    fn follow(&self, mut client: Client, own: std::ops::Range<usize>, wanted: usize) -> Result<()> {
        let mut own = own.map(name);
        loop {
            // Some at a time, so that there is something to tell.
            let some: Vec<String> = own.by_ref().take(250).collect();
            if some.is_empty() || self.stopped.load(Ordering::Relaxed) {
                break;
            }
            let count = some.len();
            client.subscribe_all(some.into_iter())?;
            self.subscribed.fetch_add(count, Ordering::Relaxed);
        }
        client.subscribe_all((0..wanted).map(wanted_name))?;
        *lock(&self.gathered) += 1;
        self.one_more.notify_all();
        client.be_patient()?;
        while !self.stopped.load(Ordering::Relaxed) {
            let pushes = client.pushes(Duration::ZERO)?;
            let at = clock::now();
            lock(&self.seen).extend(pushes.into_iter().map(|push| (at, push)));
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A channel with one subscriber.
pub(super) fn name(number: usize) -> String {
    format!("channel-{number}")
}

/// A channel with several.
pub(super) fn wanted_name(number: usize) -> String {
    format!("wanted-{number}")
}

const CLIENTS_PER_WANTED: usize = 10;
/// More than clients have, few enough that a node finds each without long searches.
const CHANNELS_PER_CLIENT: usize = 1000;
/// How many clients ask for their channels at the same time, 250 channels each.
const GATHERING_MAX: usize = 64;
