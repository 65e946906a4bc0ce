//! One client that asks for ever new names.

use std::time::Duration;

use anyhow::Result;

use super::{
    Size,
    client::{Ask, Client},
    ground::{Config, Ground, Memory},
    progress,
};
use crate::{
    chaos::resp,
    clock::{self, SECOND},
    compare::table::{Section, at_most, met},
    server::{Server, Starter},
};

/// For a minute, with Redis and without.
pub(super) fn names(starter: &Starter, size: Size) -> Result<Section> {
    let seconds = size.of(60) as u64;
    let title = format!("Names: one client asks for ever new channels for {seconds} s");
    let head = &["broker", "what", "names", "MiB more at most", "keys written"];
    let mut section = Section::new(title, head);
    let budget = ["history", "ring"].map(|it| format!("limits.{it}_bytes={}", BUDGET_MIB << 20));
    let settings = ["--set", &budget[0], "--set", &budget[1]];

    progress("with Redis");
    let ground = Ground::start(starter, 100, &settings)?;
    let (names, growth) = ask_for(&ground.node, seconds, Deed::Read)?;
    let pattern = format!("*{NAME}*");
    let keys = resp::call(ground.redis.address, &["KEYS", &pattern])?.list().len();
    let written = format!("{keys} ({})", met(keys == 0));
    let row = ["Redis".to_owned(), "read".to_owned(), names.to_string()];
    section.row([&row[..], &[at_most(growth, TABLES_MIB), written]].concat(), keys == 0);
    drop(ground);

    let folder = tempfile::tempdir()?;
    let config = Config::write(&folder, 100)?;
    for (what, deed, bar) in [
        ("read", Deed::Read, TABLES_MIB),
        ("read and published to", Deed::Publish, TABLES_MIB + 2.0 * f64::from(BUDGET_MIB)),
    ] {
        progress(&format!("without Redis: {what}"));
        let node = config.node(starter, &settings)?;
        let (names, growth) = ask_for(&node, seconds, deed)?;
        let row = ["memory", what, &names.to_string(), &at_most(growth, bar), "-"];
        section.row(row.map(str::to_owned).to_vec(), true);
    }
    Ok(section)
}

#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Read,
    Publish,
}

/// Returns how many names were asked for, and how many MiB more the node had at most.
fn ask_for(node: &Server, seconds: u64, deed: Deed) -> Result<(usize, f64)> {
    let memory = Memory::watch(node)?;
    let until = clock::now() + seconds * SECOND;
    let mut names = 0;
    while clock::now() < until {
        // A new connection each time: to stay in so many channels is another matter.
        let mut client = Client::connect(node.address)?;
        let asks = (0..CHANNELS_AT_ONCE).flat_map(|_| {
            let name = format!("{NAME}{:016x}", fastrand::u64(..));
            let publish = Ask::Publish(name.clone(), "x".repeat(1000));
            let ask = if fastrand::bool() { Ask::Recover(name) } else { Ask::Subscribe(name) };
            [Some(ask), (deed == Deed::Publish).then_some(publish)].into_iter().flatten()
        });
        client.ask_all(asks, 64, drop)?;
        client.pushes(Duration::ZERO)?;
        names += CHANNELS_AT_ONCE;
    }
    Ok((names, memory.growth()))
}

const NAME: &str = "any-name-";
const CHANNELS_AT_ONCE: usize = 100;
/// What may be kept, and what may be remembered beside it.
const BUDGET_MIB: i32 = 16;
/// For channels that linger after their last subscriber.
const TABLES_MIB: f64 = 64.0;
