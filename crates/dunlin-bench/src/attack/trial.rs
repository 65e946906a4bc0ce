//! One pattern from start to end: calm, attack, and how long it takes until all is as before.

use std::{process, thread, time::Duration};

use anyhow::{Result, anyhow};

use super::{
    good::Good,
    ground::Ground,
    mob,
    pattern::{Pattern, Size},
    probes::{Probe, Tries},
    verdict::{ANSWER_MS, Judge, Measured, Times, ratio},
};
use crate::{
    clock::{self, SECOND, nanoseconds},
    proc,
    server::Starter,
};

/// How a pattern is tried.
pub(super) struct Course {
    pub(super) good: usize,
    pub(super) calm: Duration,
    pub(super) attack: Duration,
    /// At least so long is looked at what comes behind.
    pub(super) rest: Duration,
    pub(super) size: Size,
    pub(super) judge: Judge,
    /// What the server may use, if that is bounded.
    pub(super) memory_mib: Option<u64>,
}

/// Those who behave, and the server.
struct Scene {
    ground: Ground,
    good: Good,
    newcomers: Probe,
    health: Probe,
    peak: u64,
}

/// Tries one pattern on a server of its own, with attackers of a network that no other has used.
pub(super) fn run(
    starter: &Starter,
    pattern: &Pattern,
    network: u8,
    course: &Course,
) -> Result<Measured> {
    let bands = pattern.bands(course.size);
    let mut scene = Scene::set(starter, pattern, course)?;
    thread::sleep(WARM_UP);
    scene.forget();
    scene.good.begin_phase();
    scene.watch(course.calm)?;
    let calm = Times::of(&scene.good.take_window());
    let before = (scene.ground.resident_bytes()?, scene.ground.descriptors()?);
    let cpu = [scene.ground.cpu_seconds()?, own_cpu_seconds()?];
    scene.forget();
    scene.peak = before.0;

    let address = scene.ground.server.address;
    scene.good.begin_phase();
    let until = clock::now() + nanoseconds(course.attack);
    let mob = thread::spawn(move || mob::attack(address, network, bands, until));
    scene.watch(course.attack)?;
    scene.good.begin_phase();
    drop(scene.good.take_window());
    let (newcomers, health) = (scene.newcomers.take(), scene.health.take());
    let cpu_seconds = scene.ground.cpu_seconds()? - cpu[0];
    let own_cpu_seconds = own_cpu_seconds()? - cpu[1];
    let ended = mob.join().map_err(|_| anyhow!("the attackers fell over"))??;

    let back_after = scene.wait_until_back(course, calm, before.1)?;
    let Scene { ground, good, newcomers: probe, health: other, peak } = scene;
    let resident = [before.0, peak, ground.resident_bytes()?];
    let descriptors = [before.1, ground.descriptors()?];
    probe.stop()?;
    other.stop()?;
    let takes_newcomers = Probe::newcomer_gets_in(&ground.server);
    let counted = ground.settled()?;
    let kept = good.stop()?;
    let phase = |number| kept.phases.get(number).map_or(Times::NEVER, Times::of);
    Ok(Measured {
        ended,
        // Before the first phase that counts is the warm-up.
        latency: [1, 2, 3].map(phase),
        kept,
        newcomers,
        health,
        resident: resident.map(|bytes| bytes as f64 / (1 << 20) as f64),
        cpu_seconds,
        own_cpu_seconds,
        descriptors,
        back_after,
        counted,
        takes_newcomers,
    })
}

impl Scene {
    fn set(starter: &Starter, pattern: &Pattern, course: &Course) -> Result<Self> {
        let ground = Ground::start(starter, pattern.settings, course.memory_mib)?;
        let good = Good::gather(&ground.server, course.good)?;
        let newcomers = Probe::newcomer(&ground.server);
        let health = Probe::health(&ground.server);
        Ok(Self { ground, good, newcomers, health, peak: 0 })
    }

    /// What was seen so far counts for nothing.
    fn forget(&self) {
        drop((self.good.take_window(), self.newcomers.take(), self.health.take()));
    }

    /// Lets so much time pass and looks at the memory.
    fn watch(&mut self, time: Duration) -> Result<()> {
        let until = clock::now() + nanoseconds(time);
        while clock::now() < until {
            self.peak = self.peak.max(self.ground.resident_bytes()?);
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// After how many seconds the good clients, newcomers, `/health` and the descriptors were as
    /// before, if they were in time.
    fn wait_until_back(
        &mut self,
        course: &Course,
        calm: Times,
        descriptors: usize,
    ) -> Result<Option<f64>> {
        let began = clock::now();
        let mut back = None;
        loop {
            self.watch(WINDOW)?;
            let latency = self.good.take_window();
            let tries = [self.newcomers.take(), self.health.take()];
            let swift = |it: &Tries| it.failed == 0 && Times::of(&it.latency).p99 <= ANSWER_MS;
            let calm_again = ratio(calm.p99, Times::of(&latency).p99) <= BACK_RATIO;
            let gone = self.ground.descriptors()? <= descriptors + PASSING_DESCRIPTORS;
            let passed = clock::now() - began;
            if tries.iter().all(swift) && calm_again && gone {
                back.get_or_insert(passed as f64 / SECOND as f64);
            }
            let looked = passed >= nanoseconds(course.rest);
            // A promise is no matter of time: nobody waits where only those are judged.
            let patient = course.judge == Judge::Everything && passed < BACK_MAX_NS;
            if looked && (back.is_some() || !patient) {
                return Ok(back);
            }
        }
    }
}

fn own_cpu_seconds() -> Result<f64> {
    Ok(proc::cpu_time(process::id())?.as_secs_f64())
}

/// Connections and caches are made; they are none of the attack's doing.
const WARM_UP: Duration = Duration::from_millis(300);
const GLANCE: Duration = Duration::from_millis(20);
const WINDOW: Duration = Duration::from_millis(500);
const BACK_RATIO: f64 = 2.0;
const BACK_MAX_NS: u64 = 10 * SECOND;
/// Of newcomers and of who asks `/health`, at the moment of counting.
const PASSING_DESCRIPTORS: usize = 6;
