//! The network between nodes and Redis.

use std::time::Duration;

use anyhow::Result;

use super::{Fault, loss::LATEST};
use crate::chaos::{
    proxy::{Proxy, Side, Way},
    scene::Scene,
    stage::Topology::{self, List, Single},
};

const PROXIED: &[Topology] = &[Single, List];

const fn fault(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Scene<'_>) -> Result<()>,
) -> Fault {
    Fault { name, about, on: PROXIED, run }
}

pub(super) const FAULTS: &[Fault] = &[
    fault("cut", "links between node and Redis are closed", |scene| {
        end(scene, "closed", |_, proxy| proxy.cut())
    }),
    fault("reset", "links end by RST", |scene| end(scene, "reset", |_, proxy| proxy.reset())),
    fault("half-close", "one side is told that the other has said its last word", |scene| {
        end(scene, "half closed", |first, proxy| {
            proxy.half_close(if first { Side::Node } else { Side::Server })
        })
    }),
    fault("black-hole-1", "nothing passes for 1 s, then what was sent arrives", |scene| {
        suffer(scene, Way::Blocked, 1)
    }),
    fault("black-hole-3", "... for 3 s", |scene| suffer(scene, Way::Blocked, 3)),
    fault("black-hole-6", "... for 6 s", |scene| suffer(scene, Way::Blocked, 6)),
    fault("black-hole-8", "... for 8 s", |scene| suffer(scene, Way::Blocked, 8)),
    fault("black-hole-13", "... for 13 s", |scene| suffer(scene, Way::Blocked, 13)),
    fault(
        "loss-6",
        "packets are lost for 6 s; TCP sends them again when it is their turn",
        |scene| suffer(scene, Way::Lost, 6),
    ),
    fault("loss-8", "... for 8 s, what was in flight comes up to 5 s later", |scene| {
        suffer(scene, Way::Lost, 8)
    }),
    fault("two-servers", "one link of a node goes to another, empty server for 5 s", |scene| {
        two_servers(scene)
    }),
    fault("mute", "what nodes say arrives, the answers do not for 6 s", |scene| {
        suffer(scene, Way::Mute, 6)
    }),
    fault("slices", "bytes pass one by one for 4 s", |scene| suffer(scene, Way::Sliced, 4)),
    fault("delay", "everything takes 200 ms longer each way for 4 s", |scene| {
        suffer(scene, Way::Delayed(Duration::from_millis(200)), 4)
    }),
    fault("limit", "20 kB/s pass for 4 s", |scene| suffer(scene, Way::Limited(20_000), 4)),
];

/// Ends links: of one node or of all. `end` learns by a coin how.
fn end(scene: &mut Scene<'_>, how: &str, end: fn(bool, &Proxy) -> usize) -> Result<()> {
    let coin = scene.random.bool();
    let ways = scene.ways()?;
    let ended: Vec<String> =
        ways.iter().map(|(node, proxy)| format!("{} of node {node}", end(coin, proxy))).collect();
    scene.say(format!("{how} links: {}", ended.join(", ")));
    Ok(())
}

/// An address behind which the server changes, and a node that has links to both.
fn two_servers(scene: &mut Scene<'_>) -> Result<()> {
    let other = scene.stage.spare_server()?;
    let own = scene.server()?.address;
    scene.begins();
    let choice = scene.random.usize(..);
    let ways = scene.ways()?;
    let (node, proxy) = ways[choice % ways.len()];
    proxy.lead_to(other.address);
    proxy.cut_one(choice);
    scene.say(format!("a link of node {node} goes to another server"));
    scene.hold(Duration::from_secs(5));
    let proxy = scene.way_of(node)?;
    proxy.lead_to(own);
    proxy.cut();
    scene.is_over();
    Ok(())
}

/// Makes ways bad for a while: of one node or of all.
fn suffer(scene: &mut Scene<'_>, way: Way, seconds: u64) -> Result<()> {
    let ways = scene.ways()?;
    ways.iter().for_each(|(_, proxy)| proxy.set_way(way));
    let nodes: Vec<usize> = ways.iter().map(|(node, _)| *node).collect();
    scene.say(format!("{way:?} for {seconds} s between Redis and nodes {nodes:?}"));
    scene.hold(Duration::from_secs(seconds));
    for proxy in scene.stage.proxies.iter().flatten() {
        proxy.set_way(Way::Open);
    }
    scene.is_over();
    if way == Way::Lost {
        scene.hold(LATEST);
    }
    Ok(())
}
