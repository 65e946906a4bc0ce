//! A primary that others take the place of, watched by sentinels.

use std::time::Duration;

use anyhow::Result;

use super::Fault;
use crate::chaos::{
    scene::Scene,
    stage::{
        SERVICE,
        Topology::{self, Sentinel},
    },
};

const ON: &[Topology] = &[Sentinel];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "failover",
        about: "SENTINEL FAILOVER: planned, the old primary becomes a replica",
        on: ON,
        run: |scene| {
            let old = scene.stage.primary()?;
            scene.stage.sentinels[0].call(&["SENTINEL", "FAILOVER", SERVICE])?;
            scene.say(format!("redis {old} is to be replaced"));
            replaced(scene, old)
        },
    },
    Fault {
        name: "failover-crash",
        about: "kill -9 of the primary; it returns when it has been replaced",
        on: ON,
        run: |scene| {
            let old = kill_primary(scene)?;
            replaced(scene, old)
        },
    },
    Fault {
        name: "primary-returns",
        about: "the same, and it returns 3 s later: over when it is a replica",
        on: ON,
        run: primary_returns,
    },
    Fault {
        name: "failover-lossy",
        about: "kill -9 of a primary whose replicas have not had the last 1.5 s",
        on: ON,
        run: lossy,
    },
    Fault {
        name: "sentinels-lost",
        about: "two of three sentinels are away for 6 s",
        on: ON,
        run: |scene| {
            lose_sentinels(scene);
            scene.hold(Duration::from_secs(6));
            return_sentinels(scene)?;
            scene.is_over();
            Ok(())
        },
    },
    Fault {
        name: "sentinels-lost-crash",
        about: "the same, and the primary dies: nobody replaces it before they return",
        on: ON,
        run: |scene| {
            lose_sentinels(scene);
            scene.hold(Duration::from_secs(1));
            let old = kill_primary(scene)?;
            scene.hold(Duration::from_secs(4));
            return_sentinels(scene)?;
            replaced(scene, old)
        },
    },
];

fn kill_primary(scene: &mut Scene<'_>) -> Result<usize> {
    let old = scene.stage.primary()?;
    scene.stage.servers[old].kill();
    scene.say(format!("redis {old}, the primary, is killed"));
    Ok(old)
}

/// Waits until another server is the primary, which ends the fault.
fn replaced(scene: &mut Scene<'_>, old: usize) -> Result<()> {
    scene
        .stage
        .wait_for("another primary", |stage| Ok(stage.primary().is_ok_and(|new| new != old)))?;
    let new = scene.stage.primary()?;
    scene.say(format!("redis {new} is the primary"));
    scene.is_over();
    Ok(())
}

fn primary_returns(scene: &mut Scene<'_>) -> Result<()> {
    let old = kill_primary(scene)?;
    let another = |new: usize| new != old;
    scene.stage.wait_for("another primary", |stage| Ok(stage.primary().is_ok_and(another)))?;
    scene.hold(Duration::from_secs(3));
    scene.start(old)?;
    scene.say(format!("redis {old} returns"));
    scene.stage.wait_for("it to follow", |stage| Ok(stage.servers[old].is_linked()))?;
    scene.is_over();
    Ok(())
}

fn lossy(scene: &mut Scene<'_>) -> Result<()> {
    let old = scene.stage.primary()?;
    for (index, server) in scene.stage.servers.iter().enumerate() {
        if index != old {
            server.call(&["REPLICAOF", "127.0.0.1", "1"])?;
        }
    }
    scene.say("the replicas hear nothing any more");
    scene.hold(Duration::from_millis(1500));
    let old = kill_primary(scene)?;
    replaced(scene, old)
}

fn lose_sentinels(scene: &mut Scene<'_>) {
    scene.stage.sentinels[..2].iter_mut().for_each(|sentinel| sentinel.kill());
    scene.say("two of three sentinels are killed");
}

fn return_sentinels(scene: &mut Scene<'_>) -> Result<()> {
    (0..2).try_for_each(|number| scene.start_sentinel(number))?;
    scene.say("they are back");
    Ok(())
}
