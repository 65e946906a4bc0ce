//! What a Redis does to its clients while it keeps its data.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::Fault;
use crate::chaos::{
    proxy::Way,
    resp::{self, Client, Value},
    scene::Scene,
    stage::Topology::{self, Cluster, List, Sentinel, Single},
};

const ANY: &[Topology] = &[Single, Sentinel, Cluster, List];
/// Without anybody who would take its place, or kill its script.
const ALONE: &[Topology] = &[Single, List];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "kill-pubsub",
        about: "CLIENT KILL TYPE pubsub: all subscriber links end",
        on: ANY,
        run: |scene| kill(scene, "pubsub"),
    },
    Fault {
        name: "kill-normal",
        about: "CLIENT KILL TYPE normal: all other links end",
        on: ANY,
        run: |scene| kill(scene, "normal"),
    },
    Fault {
        name: "output-buffer",
        about: "a subscriber link is not read and ends at an output buffer of 1 MB",
        on: ALONE,
        run: output_buffer,
    },
    Fault { name: "pause-write", about: "CLIENT PAUSE WRITE for 4 s", on: ANY, run: pause_write },
    Fault { name: "busy", about: "a script without end, killed after 4 s", on: ALONE, run: busy },
    Fault {
        name: "stop-redis",
        about: "SIGSTOP for 4 s",
        on: &[Single, Sentinel, List],
        run: stop,
    },
    Fault { name: "restart", about: "kill -9, started again with its AOF", on: ANY, run: restart },
    Fault { name: "away", about: "kill -9, back with its AOF after 10 s", on: ALONE, run: away },
    Fault {
        name: "script-flush",
        about: "SCRIPT FLUSH: scripts must be loaded again",
        on: ANY,
        run: |scene| {
            scene.call(&["SCRIPT", "FLUSH"])?;
            scene.say("scripts forgotten");
            Ok(())
        },
    },
];

fn kill(scene: &mut Scene<'_>, kind: &str) -> Result<()> {
    let killed = scene.call(&["CLIENT", "KILL", "TYPE", kind])?;
    if let Value::Number(killed) = killed {
        scene.say(format!("{killed} {kind} links killed"));
    }
    Ok(())
}

fn output_buffer(scene: &mut Scene<'_>) -> Result<()> {
    scene.call(&["CONFIG", "SET", LIMIT, "pubsub 1048576 524288 2"])?;
    scene.begins();
    let before = subscribers(scene)?;
    scene.set_payload(8192);
    let ways = scene.ways()?;
    ways.iter().for_each(|(_, proxy)| proxy.set_way(Way::Mute));
    let nodes: Vec<usize> = ways.iter().map(|(node, _)| *node).collect();
    scene.say(format!("nodes {nodes:?} read nothing, publications of 8 kB"));
    let mut left = before;
    for _ in 0..16 {
        scene.hold(Duration::from_millis(500));
        left = subscribers(scene)?;
        if left < before {
            break;
        }
    }
    scene.set_payload(0);
    for proxy in scene.stage.proxies.iter().flatten() {
        proxy.set_way(Way::Open);
    }
    scene.call(&["CONFIG", "SET", LIMIT, "pubsub 33554432 8388608 60"])?;
    scene.say(format!("{before} subscriber links before, {left} then"));
    scene.is_over();
    Ok(())
}

fn subscribers(scene: &mut Scene<'_>) -> Result<usize> {
    let clients = scene.call(&["CLIENT", "LIST", "TYPE", "pubsub"])?;
    Ok(clients.text().unwrap_or_default().lines().count())
}

fn pause_write(scene: &mut Scene<'_>) -> Result<()> {
    scene.call(&["CLIENT", "PAUSE", "60000", "WRITE"])?;
    scene.say("writes are held");
    scene.hold(Duration::from_secs(4));
    scene.call(&["CLIENT", "UNPAUSE"])?;
    scene.is_over();
    Ok(())
}

fn busy(scene: &mut Scene<'_>) -> Result<()> {
    scene.call(&["CONFIG", "SET", "lua-time-limit", "200"])?;
    scene.begins();
    let address = scene.server()?.address;
    let mut script = Client::dial(address, resp::PATIENCE)?;
    script.send(&["EVAL", "while true do end", "0"])?;
    scene.say("a script runs without end; BUSY after 0.2 s");
    scene.hold(Duration::from_secs(4));
    scene.call(&["SCRIPT", "KILL"])?;
    // The script ends when it looks next.
    while scene.call(&["PING"]).is_err_and(|error| format!("{error:#}").contains("BUSY")) {
        scene.hold(Duration::from_millis(10));
    }
    scene.is_over();
    scene.call(&["CONFIG", "SET", "lua-time-limit", "5000"])?;
    Ok(())
}

fn stop(scene: &mut Scene<'_>) -> Result<()> {
    scene.server()?.signal(Signal::STOP)?;
    scene.say("stands still");
    scene.hold(Duration::from_secs(4));
    scene.server()?.signal(Signal::CONT)?;
    scene.is_over();
    Ok(())
}

fn restart(scene: &mut Scene<'_>) -> Result<()> {
    back_after(scene, Duration::ZERO)
}

fn away(scene: &mut Scene<'_>) -> Result<()> {
    back_after(scene, Duration::from_secs(10))
}

fn back_after(scene: &mut Scene<'_>, time: Duration) -> Result<()> {
    scene.server()?.kill();
    scene.say("killed");
    scene.hold(time);
    scene.start_server()?;
    scene.is_over();
    Ok(())
}

const LIMIT: &str = "client-output-buffer-limit";
