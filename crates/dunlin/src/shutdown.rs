//! Leaving: when, and in which order.

use std::{io, sync::atomic::Ordering, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    config::ShutdownConfig,
    front::{Front, accept::Accepting},
};

/// SIGTERM and SIGINT: the first starts the leaving, the second ends the process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// How the leaving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// All connections were closed in time.
    InOrder,
    /// A second signal, or `shutdown.timeout`: what was left was cut off.
    CutShort,
}

impl Signals {
    /// Takes the signals over from the system's default, which is to die at once.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for either. Cancel-safe.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Leaves: not ready, still accepting, then closing evenly, then whatever is to be done `last`,
/// for which a reserve is kept that no sleeping client can take. Returns before `config.timeout`,
/// and at once on a second signal.
pub(crate) async fn leave(
    front: &Front,
    accepting: Accepting,
    config: &ShutdownConfig,
    signals: &mut Signals,
    last: impl Future<Output = ()>,
) -> Left {
    let now = Instant::now();
    let closing_ends = now + config.timeout.saturating_sub(config.reserve());
    let deadline = now + config.timeout.saturating_sub(LAST_MOMENT);
    front.is_draining.store(true, Ordering::Relaxed);
    tracing::info!(
        accept_for_s = config.accept_for.as_secs_f64(),
        drain_s = config.drain.as_secs_f64(),
        "leaving: not ready any more"
    );
    let closing = async {
        sleep(config.accept_for).await;
        accepting.stop().await;
        tracing::info!("closing connections");
        close_all(front, config.drain).await;
    };
    let leaving = async {
        let closed = timeout_at(closing_ends, closing).await;
        match (closed, timeout_at(deadline, last).await) {
            (Ok(()), Ok(())) => Left::InOrder,
            _ => Left::CutShort,
        }
    };
    tokio::select! {
        left = leaving => left,
        () = signals.received() => Left::CutShort,
    }
}

/// What the process itself needs to end.
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// Closes the connections of all shards, side by side.
async fn close_all(front: &Front, over: Duration) {
    let leaving = front.shards.iter().cloned().map(|shard| async move { shard.leave(over).await });
    leaving.collect::<JoinSet<()>>().join_all().await;
}
