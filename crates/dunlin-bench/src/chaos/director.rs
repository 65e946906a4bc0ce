//! Makes one fault after the other, in an order that follows from the seed, and waits for calm
//! between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    faults::Fault,
    scene::{Scene, Window, tell},
    stage::Stage,
};
use crate::{
    check::journal::Signals,
    clock::{self, nanoseconds},
};

/// What a run is to be like.
pub(crate) struct Plan {
    pub(crate) faults: Vec<&'static Fault>,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// When the run began (`clock::now`).
    pub(crate) origin: u64,
    /// The names of the channels; without any it is a rehearsal: each fault once, without rest.
    pub(crate) channels: Vec<String>,
}

/// Makes the faults. `stop` is looked at between them.
pub(crate) fn direct(
    plan: &Plan,
    stage: &mut Stage,
    signals: &Arc<Signals>,
    stop: &AtomicBool,
) -> Vec<Window> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let end = plan.origin + nanoseconds(plan.time);
    let mut windows: Vec<Window> = Vec::new();
    let mut order: Vec<&'static Fault> = Vec::new();
    let is_rehearsal = plan.channels.is_empty();
    let rest = |since| {
        if !is_rehearsal {
            rest(signals, since)
        }
    };
    rest(plan.origin);
    loop {
        if order.is_empty() && (windows.is_empty() || !is_rehearsal) {
            order.clone_from(&plan.faults);
            random.shuffle(&mut order);
        }
        let Some(fault) = order.pop() else { break };
        if stop.load(Ordering::Relaxed) || clock::now() >= end && !is_rehearsal {
            break;
        }
        // What follows from the seed does not depend on how long anything took.
        let mut own = random.fork();
        let began = clock::now();
        let window = Window {
            fault: fault.name,
            began,
            ended: 0,
            until: u64::MAX,
            what: Vec::new(),
            servers: Vec::new(),
            owners: stage.owners(&plan.channels),
            failed: None,
        };
        if let Some(last) = windows.last_mut() {
            last.until = began;
        }
        let origin = plan.origin;
        let mut scene = Scene { stage, random: &mut own, signals, origin, window, chosen: None };
        let done = (fault.run)(&mut scene);
        scene.set_payload(0);
        let mut window = scene.window;
        if window.ended == 0 {
            window.ended = clock::now();
        }
        if let Err(error) = done.and_then(|()| stage.mend()) {
            tell(origin, &format!("{}: could not be done: {error:#}", fault.name));
            window.failed = Some(format!("{error:#}"));
            // As far as it goes; what is not there any more is told by everything that follows.
            let _ = stage.mend();
        }
        rest(window.ended);
        windows.push(window);
    }
    if let Some(last) = windows.last_mut() {
        last.until = clock::now();
    }
    windows
}

/// Waits for calm from `since` on, within bounds.
fn rest(signals: &Signals, since: u64) {
    loop {
        let passed = Duration::from_nanos(clock::now().saturating_sub(since));
        let enough = match passed {
            passed if passed < REST_MIN => false,
            passed if passed < REST_CALM => signals.is_calm(),
            passed => passed > REST_MAX || signals.works(),
        };
        if enough {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

const REST_MIN: Duration = Duration::from_secs(2);
/// On a machine that is busy it will not become calmer than it is after this.
const REST_CALM: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(15);
