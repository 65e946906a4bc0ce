//! `dunlin-bench`: how close to the floor? A load generator that checks every delivery, the
//! smallest possible fan-out server to compare with, and the comparison.

mod clock;
mod connection;
mod epoll;
mod websocket;

mod floor;

mod centrifuge;

mod checker;
mod histogram;
mod load;
mod open;
mod payload;
mod target;

mod part;
mod proc;
mod report;
mod run;
mod watch;

mod connect;
mod fanout;
mod idle;
mod publish;
mod stall;

mod check;

mod chaos;

mod heal;

mod attack;

mod server;

mod compare;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures and checks WebSocket fan-out
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve the floor: the smallest possible fan-out, as a yardstick
    Floor(floor::Args),
    /// Publish, and check and time every delivery
    Fanout(fanout::Args),
    /// Publish as fast as answers come, and count them
    Publish(publish::Args),
    /// Open connections, hold them, answer pings
    Idle(idle::Args),
    /// Open connections as fast as the server lets us
    Connect(connect::Args),
    /// Let some clients stop reading and see what the others notice
    Stall(stall::Args),
    /// Cut centrifuge clients at random and prove that recovery loses and repeats nothing
    Check(check::Args),
    /// Start servers and nodes, make them fail in every way, and prove that no promise is broken
    Chaos(chaos::Args),
    /// Have nodes heal large gaps and bear very many channels, and judge what that costs
    Heal(heal::Args),
    /// Abuse a server in every way, and judge what good clients notice
    Attack(attack::Args),
    /// Run floor and Dunlin in turns and print the ratios as Markdown
    Compare(compare::Args),
    /// One load process of several; `fanout --processes` starts it
    #[command(hide = true)]
    Part,
}

fn main() -> ExitCode {
    dispatch(Cli::parse().verb).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Floor(args) => floor::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Fanout(args) => fanout::run(&args),
        Verb::Publish(args) => publish::run(&args),
        Verb::Idle(args) => idle::run(&args),
        Verb::Connect(args) => connect::run(&args),
        Verb::Stall(args) => stall::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Chaos(args) => chaos::run(&args),
        Verb::Heal(args) => heal::run(&args),
        Verb::Attack(args) => attack::run(&args),
        Verb::Compare(args) => compare::run(&args),
        Verb::Part => part::serve().map(|()| ExitCode::SUCCESS),
    }
}
