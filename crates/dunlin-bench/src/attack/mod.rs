//! `dunlin-bench attack`: what good clients notice while strangers abuse the server. Each pattern
//! of abuse has a server of its own, is bounded in number and time, and is judged by bars.

mod attacker;
mod good;
mod ground;
mod mob;
mod pattern;
mod probes;
mod report;
mod sequence;
mod trial;
mod verdict;

mod commands;
mod frames;
mod handshakes;
mod payloads;
mod readers;
mod tokens;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use self::{
    pattern::{Pattern, Size},
    trial::Course,
    verdict::Judge,
};
use crate::{
    chaos::end_at_the_latest_in,
    open,
    report::exit_code,
    server::{Starter, beside_this_program, machine},
};

/// Arguments of `dunlin-bench attack`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// List the patterns and do nothing
    #[arg(long)]
    list: bool,
    /// Which patterns, with a comma between [default: all]
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    only: Vec<String>,
    /// A moment of each with few clients: judges what was closed, lost or miscounted, not how fast
    #[arg(long)]
    short: bool,
    /// All patterns at once, on one server
    #[arg(long, conflicts_with_all = ["only", "short"])]
    together: bool,
    /// Memory that the server may use, in MiB, by its resource limit (ulimit -d) [default: any]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// How long each attack lasts, in seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How many good clients
    #[arg(long, default_value_t = 250)]
    good: usize,
    /// The server [default: the `dunlin` beside this program]
    #[arg(long, value_name = "FILE")]
    dunlin: Option<PathBuf>,
}

/// Runs the patterns and prints their table; exit code 1 when a bar is missed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut out = io::stdout();
    if args.list {
        for pattern in pattern::all() {
            writeln!(out, "{:22}{}", pattern.name, pattern.what)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        args.seconds > 0.0 && args.seconds <= SECONDS_MAX,
        "--seconds must be above 0 and at most {SECONDS_MAX}"
    );
    ensure!((20..=10_000).contains(&args.good), "--good must be 20 to 10000");
    let patterns = if args.together { vec![pattern::TOGETHER] } else { chosen(&args.only)? };
    let course = args.course();
    let dunlin = args.dunlin.clone().map_or_else(beside_this_program, Ok)?;
    let starter = Starter::new(dunlin, "redis-server".into())?;
    open::allow_connections(args.good + ATTACKERS_MAX)?;
    end_at_the_latest_in((course.attack + PATTERN_MAX) * patterns.len() as u32);
    writeln!(out, "{} good clients on {}.\n", course.good, machine())?;
    report::write_head(&mut out)?;
    let mut clean = true;
    for (network, pattern) in (0..u8::MAX).zip(&patterns) {
        match trial::run(&starter, pattern, network, &course) {
            Ok(measured) => {
                let missed = measured.missed(&pattern.bars, course.judge);
                report::write_row(&mut out, pattern, &measured, &missed)?;
                clean &= missed.is_empty();
            }
            Err(error) => {
                report::write_failure(&mut out, pattern, &error)?;
                clean = false;
            }
        }
    }
    Ok(exit_code(clean))
}

impl Args {
    fn course(&self) -> Course {
        if self.short {
            let moment = Duration::from_millis(500);
            let (size, judge) = (Size(0.05), Judge::Promises);
            return Course {
                good: 20,
                calm: moment,
                attack: moment,
                rest: moment,
                size,
                judge,
                memory_mib: self.memory,
            };
        }
        Course {
            good: self.good,
            calm: Duration::from_secs(2),
            attack: Duration::from_secs_f64(self.seconds),
            rest: Duration::from_secs(2),
            size: if self.together { pattern::size_for(ATTACKERS_MAX) } else { Size(1.0) },
            judge: Judge::Everything,
            memory_mib: self.memory,
        }
    }
}

fn chosen(names: &[String]) -> Result<Vec<Pattern>> {
    let all = pattern::all();
    let find = |name: &String| {
        let found = all.iter().find(|pattern| pattern.name == name).copied();
        found.with_context(|| format!("there is no pattern {name:?}: see --list"))
    };
    if names.is_empty() { Ok(all) } else { names.iter().map(find).collect() }
}

/// No pattern takes longer than this and its attack, whatever hangs.
const PATTERN_MAX: Duration = Duration::from_secs(60);
/// Longest attack.
const SECONDS_MAX: f64 = 600.0;
/// Of one pattern at once.
const ATTACKERS_MAX: usize = 2500;
