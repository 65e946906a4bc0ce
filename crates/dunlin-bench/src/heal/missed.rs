//! Much of one channel is missed while the node is away.

use std::{thread, time::Duration};

use anyhow::Result;

use super::{
    Size,
    client::{Ask, Client},
    ground::{Ground, Memory},
    others::{Others, p99_ms},
    progress,
};
use crate::{
    chaos::proxy::Way,
    clock::{self, SECOND},
    compare::table::{Section, at_most, met},
    server::Starter,
};

/// 10,000 publications of 30 KB.
pub(super) fn many_publications(starter: &Starter, size: Size) -> Result<Section> {
    missed(starter, size.of(10_000), Way::Open)
}

/// 100 MB over a way that carries 10 MB/s.
pub(super) fn slow_way(starter: &Starter, size: Size) -> Result<Section> {
    missed(starter, size.of(100_000_000 / BYTES), Way::Limited(10_000_000))
}

/// What the reader of the channel saw.
#[derive(Default)]
struct Seen {
    came: usize,
    /// Out of order, twice, or behind something that never came.
    wrong: usize,
    /// The word that something is missing.
    told: Option<String>,
}

fn missed(starter: &Starter, count: usize, way: Way) -> Result<Section> {
    let way_name = match way {
        Way::Limited(bytes) => format!("{} MB/s to Redis", bytes / 1_000_000),
        _ => "way to Redis as it is".to_owned(),
    };
    let title = format!("Missed: {count} × {BYTES} bytes of one channel, {way_name}");
    let mut section = Section::new(title, &["", "measured"]);
    let ring = format!("limits.ring_bytes={RING_BYTES}");
    let ground = Ground::start(starter, 2 * count, &["--set", &ring])?;
    ground.proxy.set_way(way);
    let others = Others::start(ground.node.address, ground.other.address)?;
    let mut reader = Client::connect(ground.node.address)?;
    reader.subscribe_all(["missed".to_owned()].into_iter())?;

    progress("the other channels in calm");
    others.set_flow(true);
    let calm_until = clock::now() + 5 * SECOND;
    while clock::now() < calm_until {
        reader.pushes(Duration::from_secs(1))?;
    }
    others.set_flow(false);
    thread::sleep(REST);
    let calm = p99_ms(others.take_times());

    progress("the link is cut; the channel goes on");
    ground.keep_away()?;
    let payload = "x".repeat(BYTES);
    let publish = |number| Ask::Publish("missed".to_owned(), format!("{number} {payload}"));
    let answers =
        Client::connect(ground.other.address)?.ask_all((0..count).map(publish), 64, drop)?;
    anyhow::ensure!(answers.refused == 0, "publishes were refused: {:?}", answers.first_refusal);

    progress("the link is there again");
    let memory = Memory::watch(&ground.node)?;
    let back = clock::now();
    ground.let_back();
    let seen = read(&mut reader, count, || others.set_flow(true));
    let took = (clock::now() - back) as f64 / SECOND as f64;
    let growth = memory.growth();
    others.set_flow(false);
    thread::sleep(REST);
    let meanwhile = others.take_times();
    let (samples, busy) = (meanwhile.len(), p99_ms(meanwhile));
    others.stop()?;

    let told = seen.told.clone().unwrap_or_else(|| "nothing".to_owned());
    let right = seen.wrong == 0 && (seen.came == count || seen.told.is_some());
    let mut row = |what: &str, measured| section.row(vec![what.to_owned(), measured], right);
    let came = format!("{} of {count} in {took:.1} s", seen.came);
    row("healed in full, or told", format!("{came}, told: {told} ({})", met(right)));
    row("wrong", seen.wrong.to_string());
    row("other channels, p99 ms: calm", format!("{calm:.1}"));
    row("meanwhile", at_most(busy, (20.0 * calm).round() / 10.0) + &format!(" of {samples}"));
    row("MiB more at most", at_most(growth, MIB_BAR));
    Ok(section)
}

/// Reads until everything came or somebody says that it does not.
fn read(reader: &mut Client, count: usize, on_first: impl FnOnce()) -> Seen {
    let (mut seen, mut on_first) = (Seen::default(), Some(on_first));
    let mut last = clock::now();
    while seen.came < count && seen.told.is_none() && clock::now() - last < PATIENCE_NS {
        let pushes = match reader.pushes(Duration::from_secs(1)) {
            Ok(pushes) => pushes,
            Err(error) => {
                seen.told = Some(error.to_string());
                break;
            }
        };
        for push in pushes {
            if let Some(publication) = push.publication {
                last = clock::now();
                let number = publication.data.split(' ').next().and_then(|it| it.parse().ok());
                seen.wrong += usize::from(number != Some(seen.came));
                seen.came += 1;
                if let Some(on_first) = on_first.take() {
                    on_first();
                }
            } else if let Some(end) = push.unsubscribe {
                seen.told = Some(format!("unsubscribed with {}", end.code));
            }
        }
    }
    seen
}

const BYTES: usize = 30_000;
/// So little that what the node remembers for others is not what is measured.
const RING_BYTES: usize = 8 << 20;
const MIB_BAR: f64 = 64.0;
/// More than a node waits for anything.
const PATIENCE_NS: u64 = 60 * SECOND;
/// For the last deliveries.
const REST: Duration = Duration::from_millis(500);
