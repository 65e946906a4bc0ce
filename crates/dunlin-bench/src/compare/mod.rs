//! `dunlin-bench compare`: floor and Dunlin in turns on this machine, as tables for the README.
//! Each row is judged by the bar the project has set itself.

mod clients;
mod fan_out;
mod history;
mod recovery;
mod scale;
pub(crate) mod table;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;

use self::{scale::Scale, table::Section};
use crate::server::{self, Starter};

/// Arguments of `dunlin-bench compare`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Connections in the fan-out rows [default: 1000,5000]
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Windows in the fan-out rows [default: 1,4,32]
    #[arg(long, value_delimiter = ',')]
    windows: Vec<u32>,
    /// Seconds to measure in each fan-out run [default: 5]
    #[arg(long)]
    seconds: Option<f64>,
    /// Turns of floor and Dunlin per row; medians are reported [default: 3]
    #[arg(long)]
    rounds: Option<usize>,
    /// The server [default: the `dunlin` beside this program]
    #[arg(long)]
    dunlin: Option<PathBuf>,
    /// For the rows with Redis; a private one is started on a free port
    #[arg(long, default_value = "redis-server")]
    redis_server: PathBuf,
    /// Run only this group of rows; repeatable
    #[arg(long = "only", value_name = "GROUP", value_enum)]
    only: Vec<Group>,
    /// A smoke run of some seconds; its figures mean nothing
    #[arg(long)]
    quick: bool,
}

/// A group of rows: one table.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// One channel, one node, memory broker
    Fanout,
    /// One channel, two nodes over Redis
    Nodes,
    /// Many channels of two subscribers, memory broker and two nodes over Redis
    Channels,
    /// Connections that do nothing
    Idle,
    /// A storm of new connections
    Connect,
    /// Clients that stop reading
    Stall,
    /// One centrifuge channel with history
    History,
    /// Idle centrifuge connections with one subscription
    Subscribed,
    /// Clients that come and go while a node, or Redis, is killed
    Recovery,
}

/// Runs the groups and prints their tables; exit code 1 when a delivery was lost, came twice or out
/// of order, or a connection failed. A bar that is not met is said, but is no failure of the run.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let dunlin = args.dunlin.clone().map_or_else(server::beside_this_program, Ok)?;
    let starter = Starter::new(dunlin, args.redis_server.clone())?;
    let scale = args.scale();
    let mut out = io::stdout();
    writeln!(out, "Measured by `{}` on {}.", command_line(), server::machine())?;
    let mut clean = true;
    for group in Group::ALL {
        if !args.only.is_empty() && !args.only.contains(&group) {
            continue;
        }
        let section = group.run(&starter, &scale)?;
        write!(out, "\n{section}")?;
        out.flush()?;
        clean &= section.clean;
    }
    Ok(crate::report::exit_code(clean))
}

impl Group {
    const ALL: [Self; 9] = [
        Self::Fanout,
        Self::Nodes,
        Self::Channels,
        Self::Idle,
        Self::Connect,
        Self::Stall,
        Self::History,
        Self::Subscribed,
        Self::Recovery,
    ];

    fn run(self, starter: &Starter, scale: &Scale) -> Result<Section> {
        match self {
            Self::Fanout => fan_out::one_node(starter, scale),
            Self::Nodes => fan_out::two_nodes(starter, scale),
            Self::Channels => fan_out::many_channels(starter, scale),
            Self::Idle => clients::idle(starter, scale),
            Self::Connect => clients::connect(starter, scale),
            Self::Stall => clients::stall(starter, scale),
            Self::History => history::fan_out(starter, scale),
            Self::Subscribed => history::subscribed(starter, scale),
            Self::Recovery => recovery::recovery(starter, scale),
        }
    }
}

impl Args {
    fn scale(&self) -> Scale {
        let mut scale = if self.quick { Scale::quick() } else { Scale::full() };
        if !self.connections.is_empty() {
            scale.connections.clone_from(&self.connections);
        }
        if !self.windows.is_empty() {
            scale.windows.clone_from(&self.windows);
        }
        scale.seconds = self.seconds.unwrap_or(scale.seconds);
        scale.rounds = self.rounds.unwrap_or(scale.rounds).max(1);
        scale
    }
}

fn command_line() -> String {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    format!("dunlin-bench {arguments}")
}

/// Says what is being done, for those who wait.
fn progress(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
