//! A Redis that loses its data, or some of it.

use std::time::Duration;

use anyhow::Result;

use super::Fault;
use crate::chaos::{
    scene::Scene,
    stage::Topology::{self, Cluster, List, Sentinel, Single},
};

/// Without replicas that have the data.
const ALONE: &[Topology] = &[Single, List];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "restart-empty",
        about: "kill -9, started again without any data",
        on: ALONE,
        run: restart_empty,
    },
    Fault { name: "flush", about: "FLUSHALL", on: &[Single, Sentinel, Cluster, List], run: flush },
    Fault {
        name: "older-snapshot",
        about: "kill -9, started again with what it had 3 s before",
        on: ALONE,
        run: older_snapshot,
    },
];

fn restart_empty(scene: &mut Scene<'_>) -> Result<()> {
    scene.server()?.kill();
    scene.server()?.forget()?;
    scene.say("killed, its data thrown away");
    scene.start_server()?;
    scene.is_over();
    Ok(())
}

fn flush(scene: &mut Scene<'_>) -> Result<()> {
    scene.call(&["FLUSHALL"])?;
    scene.say("all keys gone");
    Ok(())
}

fn older_snapshot(scene: &mut Scene<'_>) -> Result<()> {
    scene.server()?.snapshot()?;
    scene.hold(Duration::from_secs(3));
    scene.begins();
    scene.server()?.kill();
    scene.server()?.roll_back()?;
    scene.say("killed, its data are those of 3 s before");
    scene.start_server()?;
    scene.is_over();
    Ok(())
}
