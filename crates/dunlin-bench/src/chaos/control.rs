//! A Redis of its own that no node uses and no fault is about. It is asked all the time: how much
//! longer its answers take while a fault lasts is the doing of the machine that all share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

use super::{
    resp::{Client, PATIENCE},
    stage::{RedisServer, Stage},
};
use crate::clock;

/// See the module's text.
pub(crate) struct Control {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Asked>>,
    _server: RedisServer,
}

/// When it was asked, and when it answered (`clock::now`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) at: u64,
    pub(crate) answered: u64,
}

impl Control {
    pub(crate) fn start(stage: &Stage) -> Result<Self> {
        let server = stage.spare_server()?;
        let mut client = Client::dial(server.address, PATIENCE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let at = clock::now();
                if client.call(&["PING"]).is_err() {
                    break;
                }
                all.push(Asked { at, answered: clock::now() });
                thread::sleep(EVERY);
            }
            all
        });
        Ok(Self { stop, thread, _server: server })
    }

    pub(crate) fn finish(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

const EVERY: Duration = Duration::from_millis(2);
