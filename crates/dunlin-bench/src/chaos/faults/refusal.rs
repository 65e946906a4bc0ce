//! A Redis that is there and refuses to work.

use std::{fs, thread, time::Duration};

use anyhow::{Result, bail};

use super::Fault;
use crate::chaos::{
    scene::Scene,
    stage::Topology::{self, Cluster, List, Sentinel, Single},
};

const ANY: &[Topology] = &[Single, Sentinel, Cluster, List];
/// Without anybody who would put it right.
const ALONE: &[Topology] = &[Single, List];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "readonly",
        about: "REPLICAOF of nobody: READONLY for 4 s",
        on: ALONE,
        run: |scene| {
            refuse(scene, &[&["REPLICAOF", "127.0.0.1", "1"]], &[&["REPLICAOF", "NO", "ONE"]])
        },
    },
    Fault {
        name: "oom",
        about: "maxmemory 1: OOM for 4 s",
        on: ANY,
        run: |scene| {
            refuse(
                scene,
                &[&["CONFIG", "SET", "maxmemory", "1"]],
                &[&["CONFIG", "SET", "maxmemory", "0"]],
            )
        },
    },
    Fault {
        name: "misconf",
        about: "snapshots fail, so writes do: MISCONF for 4 s",
        on: ANY,
        run: misconf,
    },
    Fault {
        name: "no-scripts",
        about: "the right to run scripts is taken away for 4 s",
        on: ANY,
        run: |scene| {
            refuse(
                scene,
                &[&["ACL", "SETUSER", "default", "-@scripting"]],
                &[&["ACL", "SETUSER", "default", "+@all"]],
            )
        },
    },
    Fault {
        name: "no-channels",
        about: "the right to all channels is taken away for 4 s",
        on: ANY,
        run: |scene| {
            refuse(
                scene,
                &[&["ACL", "SETUSER", "default", "resetchannels"]],
                &[&["ACL", "SETUSER", "default", "allchannels"]],
            )
        },
    },
];

fn refuse(scene: &mut Scene<'_>, make: &[&[&str]], end: &[&[&str]]) -> Result<()> {
    for command in make {
        scene.call(command)?;
        scene.say(command.join(" "));
    }
    scene.hold(TIME);
    for command in end {
        scene.call(command)?;
    }
    scene.is_over();
    Ok(())
}

/// A folder stands where the snapshot should go.
fn misconf(scene: &mut Scene<'_>) -> Result<()> {
    let dump = scene.server()?.dump();
    let _ = fs::remove_file(&dump);
    fs::create_dir_all(&dump)?;
    scene.call(&["CONFIG", "SET", "save", "3600 1"])?;
    scene.begins();
    save(scene, "err")?;
    scene.say("a snapshot has failed");
    scene.hold(TIME);
    fs::remove_dir(&dump)?;
    save(scene, "ok")?;
    scene.is_over();
    scene.call(&["CONFIG", "SET", "save", ""])?;
    Ok(())
}

/// Makes a snapshot and waits for its outcome.
fn save(scene: &mut Scene<'_>, outcome: &str) -> Result<()> {
    scene.call(&["BGSAVE"])?;
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(50));
        let server = scene.server()?;
        if server.info("persistence", "rdb_bgsave_in_progress")? == "0"
            && server.info("persistence", "rdb_last_bgsave_status")? == outcome
        {
            return Ok(());
        }
    }
    bail!("no snapshot with the outcome {outcome}")
}

const TIME: Duration = Duration::from_secs(4);
