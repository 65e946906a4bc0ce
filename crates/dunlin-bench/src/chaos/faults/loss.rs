//! Packets that the kernel loses.

use std::time::Duration;

use anyhow::Result;

use super::Fault;
use crate::chaos::{
    namespace,
    scene::Scene,
    stage::Topology::{self, List, Single},
};

const ON: &[Topology] = &[Single, List];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "packet-loss",
        about: "for 6 s all packets from and to a Redis are lost half of the time; needs root",
        on: ON,
        run: |scene| lose(scene, 8, Duration::from_millis(400)),
    },
    Fault {
        name: "packet-loss-7",
        about: "for 7 s all packets from and to a Redis are lost; needs root",
        on: ON,
        run: |scene| lose(scene, 1, Duration::from_secs(7)),
    },
];

fn lose(scene: &mut Scene<'_>, times: u32, time: Duration) -> Result<()> {
    let port = scene.server()?.address.port();
    scene.say(format!("packets of port {port} are lost, {times} times for {time:?}"));
    for number in 0..times {
        if number > 0 {
            scene.hold(time);
        }
        namespace::lose(port)?;
        scene.hold(time);
        namespace::lose_nothing()?;
    }
    scene.is_over();
    // What is sent again now may come late.
    scene.hold(LATEST);
    Ok(())
}

/// Until TCP has tried once more to send what was lost.
pub(super) const LATEST: Duration = Duration::from_secs(5);
