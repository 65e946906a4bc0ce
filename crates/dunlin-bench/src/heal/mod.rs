//! `dunlin-bench heal`: what large gaps, very many channels and ever new names cost a node. Each
//! row starts a Redis and nodes of its own, and is judged by the bar the project has set itself.

mod client;
mod crowd;
mod cut;
mod ground;
mod kept;
mod missed;
mod names;
mod others;
mod silent;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};

use crate::{
    chaos::end_at_the_latest_in,
    compare::table::Section,
    report,
    server::{Starter, beside_this_program, machine},
};

/// Arguments of `dunlin-bench heal`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which rows, with a comma between [default: all]
    #[arg(long, value_name = "ROW", value_enum, value_delimiter = ',')]
    rows: Vec<Row>,
    /// So much of the load that the bars are meant for, up to 1
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The server [default: the `dunlin` beside this program]
    #[arg(long, value_name = "FILE")]
    dunlin: Option<PathBuf>,
    /// The Redis server, or another that speaks as it does
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    redis_server: PathBuf,
}

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Row {
    /// 10,000 publications of 30 KB are missed
    Missed,
    /// 100 MB are missed, and the way to Redis carries 10 MB/s
    Slow,
    /// A node with 200,000 channels is cut off
    Cut,
    /// Somebody comes new to a node with 500,000 silent channels
    Silent,
    /// 7,660 small publications are kept among 500 MB that are not
    Kept,
    /// A thousand channels keep 256 publications of 4 KB
    Rings,
    /// One client asks for ever new names for a minute
    Names,
}

/// How much of the load.
#[derive(Clone, Copy)]
struct Size(f64);

impl Size {
    fn of(self, count: usize) -> usize {
        ((count as f64 * self.0) as usize).max(1)
    }
}

/// Runs the rows and prints their tables; exit code 1 when something was lost without a word. A bar
/// that is not met is said, but is no failure of the run.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(args.scale > 0.0 && args.scale <= 1.0, "--scale must be above 0 and at most 1");
    let dunlin = args.dunlin.clone().map_or_else(beside_this_program, Ok)?;
    let starter = Starter::new(dunlin, args.redis_server.clone())?;
    let rows: Vec<Row> = if args.rows.is_empty() { Row::ALL.to_vec() } else { args.rows.clone() };
    end_at_the_latest_in(ROW_MAX * rows.len() as u32);
    let mut out = io::stdout();
    writeln!(out, "Measured with {} of the full load on {}.", args.scale, machine())?;
    let mut clean = true;
    for row in rows {
        let section = row.run(&starter, Size(args.scale))?;
        write!(out, "\n{section}")?;
        out.flush()?;
        clean &= section.clean;
    }
    Ok(report::exit_code(clean))
}

impl Row {
    const ALL: [Self; 7] =
        [Self::Missed, Self::Slow, Self::Cut, Self::Silent, Self::Kept, Self::Rings, Self::Names];

    fn run(self, starter: &Starter, size: Size) -> Result<Section> {
        match self {
            Self::Missed => missed::many_publications(starter, size),
            Self::Slow => missed::slow_way(starter, size),
            Self::Cut => cut::cut(starter, size),
            Self::Silent => silent::silent(starter, size),
            Self::Kept => kept::small_among_passing(starter, size),
            Self::Rings => kept::many_rings(starter, size),
            Self::Names => names::names(starter, size),
        }
    }
}

/// Says what is being done, for those who wait.
fn progress(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Waits for the threads of clients that were told to stop.
fn join(tasks: impl IntoIterator<Item = JoinHandle<Result<()>>>) -> Result<()> {
    for task in tasks {
        task.join().map_err(|_| anyhow!("a client fell over"))??;
    }
    Ok(())
}

/// From a node to Redis and back, where that is far.
const ROUND_TRIP: Duration = Duration::from_millis(5);
/// No row takes longer, whatever hangs.
const ROW_MAX: Duration = Duration::from_secs(600);
