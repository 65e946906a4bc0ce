//! A node with very many channels that say nothing, and somebody who comes new.

use std::time::Duration;

use anyhow::Result;

use super::{
    ROUND_TRIP, Size,
    client::{Ask, Client},
    crowd::Crowd,
    ground::Ground,
    others::p99_ms,
    progress,
};
use crate::{
    clock::{self, SECOND},
    compare::table::{Section, at_most},
    server::Starter,
};

/// 500,000 silent channels with history, five milliseconds from Redis.
pub(super) fn silent(starter: &Starter, size: Size) -> Result<Section> {
    let channels = size.of(500_000);
    let title = format!("Silent: a node with {channels} channels, {ROUND_TRIP:?} from Redis");
    let mut section = Section::new(title, &["new subscriptions", "p99 ms", "longest ms"]);
    let ground = Ground::start(starter, 10, &[])?;
    ground.set_round_trip(ROUND_TRIP);
    let crowd = Crowd::gather(ground.node.address, channels, 0)?;
    let mut client = Client::connect(ground.node.address)?;
    let mut number = 0;
    // The node asks about each channel that was silent for a minute, and goes through all of them
    // once a minute.
    for (when, time) in [("before anything is asked about", 50), ("while all are asked about", 70)]
    {
        progress(when);
        let mut times = Vec::new();
        let until = clock::now() + time * SECOND;
        while clock::now() < until {
            number += 1;
            let ask = Ask::Subscribe(format!("new-{number}"));
            times.extend(client.ask_all([ask], 1, drop)?.times);
            client.pushes(Duration::from_millis(100))?;
        }
        let longest = times.iter().max().map_or(f64::NAN, |&time| time as f64 / 1e6);
        let what = format!("{} {when}", times.len());
        section.row(vec![what, format!("{:.1}", p99_ms(times)), at_most(longest, 100.0)], true);
    }
    crowd.stop()?;
    Ok(section)
}
