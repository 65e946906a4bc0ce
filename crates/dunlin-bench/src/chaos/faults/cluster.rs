//! A cluster whose primaries are replaced and whose slots move.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::Fault;
use crate::chaos::{
    scene::Scene,
    stage::Topology::{self, Cluster},
};

const ON: &[Topology] = &[Cluster];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "cluster-failover",
        about: "CLUSTER FAILOVER: planned",
        on: ON,
        run: |scene| ask_replica(scene, &["CLUSTER", "FAILOVER"]),
    },
    Fault {
        name: "cluster-force",
        about: "CLUSTER FAILOVER FORCE: the primary is not asked",
        on: ON,
        run: |scene| ask_replica(scene, &["CLUSTER", "FAILOVER", "FORCE"]),
    },
    Fault {
        name: "cluster-crash",
        about: "kill -9 of a primary; it returns when its replica has taken over",
        on: ON,
        run: |scene| {
            let (primary, replica) = shard(scene)?;
            scene.stage.servers[primary].kill();
            scene.say(format!("redis {primary} is killed"));
            taken_over(scene, replica)
        },
    },
    Fault {
        name: "cluster-stop",
        about: "SIGSTOP of a primary for 10 s: its replica takes over, then it wakes",
        on: ON,
        run: |scene| {
            let (primary, _) = shard(scene)?;
            scene.stage.servers[primary].signal(Signal::STOP)?;
            scene.say(format!("redis {primary} stands still"));
            scene.hold(Duration::from_secs(10));
            scene.stage.servers[primary].signal(Signal::CONT)?;
            scene.is_over();
            Ok(())
        },
    },
    Fault {
        name: "cluster-away",
        about: "a primary and its replica are away for 10 s: nobody takes over",
        on: ON,
        run: away,
    },
    Fault {
        name: "slots",
        about: "100 slots with keys move to another primary and back",
        on: ON,
        run: move_slots,
    },
];

/// A primary by chance, and its replica. The others' channels should notice nothing.
fn shard(scene: &mut Scene<'_>) -> Result<(usize, usize)> {
    let shards = scene.stage.shards();
    let chosen = scene.random.usize(..shards.len().max(1));
    let (primary, replica) = *shards.get(chosen).context("a primary with slots")?;
    scene.suffer(&[primary]);
    Ok((primary, replica.context("its replica")?))
}

fn ask_replica(scene: &mut Scene<'_>, command: &[&str]) -> Result<()> {
    let (primary, replica) = shard(scene)?;
    scene.stage.servers[replica].call(command)?;
    scene.say(format!("redis {replica} is to take the place of redis {primary}"));
    taken_over(scene, replica)
}

fn taken_over(scene: &mut Scene<'_>, replica: usize) -> Result<()> {
    scene
        .stage
        .wait_for("the replica to take over", |stage| Ok(stage.servers[replica].is_primary()))?;
    scene.say(format!("redis {replica} is a primary"));
    scene.is_over();
    Ok(())
}

fn away(scene: &mut Scene<'_>) -> Result<()> {
    let (primary, replica) = shard(scene)?;
    // The replica first, or it would take over.
    scene.stage.servers[replica].kill();
    scene.stage.servers[primary].kill();
    scene.say(format!("redis {primary} and its replica are killed"));
    scene.hold(Duration::from_secs(10));
    scene.start(primary)?;
    scene.start(replica)?;
    scene.stage.wait_for("the cluster", |stage| Ok(stage.is_whole()))?;
    scene.is_over();
    Ok(())
}

fn move_slots(scene: &mut Scene<'_>) -> Result<()> {
    let shards = scene.stage.shards();
    let from = scene.random.usize(..shards.len().max(1));
    let (source, _) = *shards.get(from).context("a primary with slots")?;
    let (target, _) = shards[(from + 1) % shards.len()];
    // It waits for the target with each key, and so do the target's own channels.
    scene.suffer(&[source, target]);
    let slots = scene.stage.slots_with_keys(source, SLOTS)?;
    scene.begins();
    scene.say(format!("{} slots move from redis {source} to redis {target}", slots.len()));
    for &slot in &slots {
        // Some publications are to fall between the keys' way and the slot's.
        scene.stage.move_slot(slot, source, target, || thread::sleep(ASK))?;
    }
    scene.say("they move back");
    for &slot in &slots {
        scene.stage.move_slot(slot, target, source, || thread::sleep(ASK))?;
    }
    scene.is_over();
    Ok(())
}

const SLOTS: usize = 100;
const ASK: Duration = Duration::from_millis(20);
