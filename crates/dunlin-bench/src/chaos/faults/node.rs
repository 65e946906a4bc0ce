//! Nodes that stop, die and leave.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::Fault;
use crate::chaos::{
    scene::Scene,
    stage::Topology::{self, Cluster, List, Sentinel, Single},
};

const ANY: &[Topology] = &[Single, Sentinel, Cluster, List];

pub(super) const FAULTS: &[Fault] = &[
    Fault { name: "node-kill", about: "kill -9 of a node, back after 1 s", on: ANY, run: kill },
    Fault { name: "node-stop", about: "SIGSTOP of a node for 10 s", on: ANY, run: stop },
    Fault {
        name: "replica-start",
        about: "a node starts while its Redis is a replica, for 3 s",
        on: &[Single],
        run: replica_start,
    },
    Fault { name: "node-leave", about: "SIGTERM of a node, back at once", on: ANY, run: leave },
];

fn kill(scene: &mut Scene<'_>) -> Result<()> {
    let number = pick(scene);
    scene.stage.nodes[number].kill();
    scene.say(format!("node {number} is killed"));
    scene.hold(Duration::from_secs(1));
    scene.start_node(number)?;
    scene.is_over();
    Ok(())
}

fn stop(scene: &mut Scene<'_>) -> Result<()> {
    let number = pick(scene);
    scene.stage.nodes[number].signal(Signal::STOP)?;
    scene.say(format!("node {number} stands still"));
    scene.hold(Duration::from_secs(10));
    scene.stage.nodes[number].signal(Signal::CONT)?;
    scene.is_over();
    Ok(())
}

fn leave(scene: &mut Scene<'_>) -> Result<()> {
    let number = pick(scene);
    scene.say(format!("node {number} is asked to leave"));
    if !scene.stage.nodes[number].dismiss(PATIENCE)? {
        scene.say(format!("node {number} had to be killed after {PATIENCE:?}"));
    }
    scene.start_node(number)?;
    scene.is_over();
    Ok(())
}

fn replica_start(scene: &mut Scene<'_>) -> Result<()> {
    let number = pick(scene);
    scene.stage.nodes[number].kill();
    scene.call(&["REPLICAOF", "127.0.0.1", "1"])?;
    let started = scene.start_node(number).is_ok();
    let did = if started { "starts" } else { "refuses to start" };
    scene.say(format!("node {number} {did} on a replica"));
    scene.hold(Duration::from_secs(3));
    scene.call(&["REPLICAOF", "NO", "ONE"])?;
    if !started {
        scene.start_node(number)?;
    }
    scene.is_over();
    Ok(())
}

fn pick(scene: &mut Scene<'_>) -> usize {
    let count = scene.stage.nodes.len();
    scene.random.usize(..count)
}

const PATIENCE: Duration = Duration::from_secs(30);
