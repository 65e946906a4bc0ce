//! `dunlin-bench chaos`: nodes and Redis servers of its own, clients that come and go, one fault
//! after the other, and an examination of everything that publishers and subscribers saw.

mod control;
mod director;
mod examine;
mod faults;
mod healing;
mod namespace;
pub(crate) mod proxy;
mod readiness;
mod report;
pub(crate) mod resp;
mod scene;
mod stage;
mod stalls;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use self::{
    control::{Asked, Control},
    director::Plan,
    healing::Waits,
    readiness::{Change, Readiness},
    report::{FaultReport, Report},
    scene::{Window, tell},
    stage::{Stage, Topology},
    stalls::{Sleeper, Stall},
};
use crate::{
    check::{
        self, Counts, Swarm,
        journal::{Journal, Signals},
    },
    clock::{self, nanoseconds},
    open,
    server::{Starter, beside_this_program},
};

/// Arguments of `dunlin-bench chaos`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How the Redis servers stand together
    #[arg(long, value_enum, default_value_t = Topology::Single)]
    topology: Topology,
    /// Nodes of Dunlin; 0 rehearses: each fault once, with Redis servers only, nothing is judged
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Clients, each subscribed to two channels; half of them reconnect all the time
    #[arg(long, default_value_t = 300)]
    clients: usize,
    /// Channels
    #[arg(long, default_value_t = 50)]
    channels: usize,
    /// Publications per second, all clients together
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// How long new faults begin; the last one is waited for
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// What the order of faults and all their choices follow from [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Which faults: `all`, or names with a comma between; `help` lists them. They come in an order
    /// that follows from the seed, again and again until the time is over
    #[arg(long, value_delimiter = ',', default_value = "all")]
    faults: Vec<String>,
    /// The server [default: the `dunlin` beside this program]
    #[arg(long, value_name = "FILE")]
    dunlin: Option<PathBuf>,
    /// The Redis server, or another that speaks as it does
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    redis_server: PathBuf,
    /// Keep the logs and data of all servers in this folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// It has started itself again in a network namespace
    #[arg(long, hide = true)]
    in_namespace: bool,
}

/// Runs it; exit code 1 when a promise was broken.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.faults.iter().any(|name| name == "help") {
        write!(io::stdout(), "{}", faults::list())?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(args.clients > 1 && args.channels > 0, "--clients must be above 1, --channels above 0");
    ensure!(args.rate > 0.0 && args.minutes > 0.0, "--rate and --minutes must be above 0");
    let mut faults = faults::named(&args.faults, args.topology, args.nodes)?;
    if args.in_namespace {
        namespace::set_up()?;
    } else if faults.iter().any(|fault| fault.loses_packets()) {
        if namespace::is_possible() {
            return Err(namespace::start_again_inside()).context("cannot start again");
        }
        let names: Vec<&str> =
            faults.iter().filter(|it| it.loses_packets()).map(|it| it.name).collect();
        let named = args.faults.iter().any(|name| names.contains(&name.as_str()));
        let reason = "root, unshare (util-linux) and ip (iproute2) are needed to lose packets";
        ensure!(!named, "{reason}");
        tell(clock::now(), &format!("left out: {}; {reason}", names.join(", ")));
        faults.retain(|fault| !fault.loses_packets());
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    open::allow_connections(args.clients)?;

    let dunlin = args.dunlin.clone().map_or_else(beside_this_program, Ok)?;
    let starter = Starter::new(dunlin, args.redis_server.clone())?;
    let origin = clock::now();
    tell(origin, &format!("seed {seed}: starting servers and nodes"));
    let mut stage = Stage::start(starter, args.topology, args.nodes, args.keep.as_deref())?;
    end_at_the_latest_in(time + START_MAX + OVERTIME_MAX);
    let plan = Plan { faults, time, seed, origin, channels: Vec::new() };
    if args.nodes == 0 {
        return rehearse(&mut stage, &plan);
    }
    let show = perform(args, &mut stage, plan)?;
    let report = judge(args, &show);
    crate::report::print(&report, args.json)?;
    Ok(crate::report::exit_code(report.right))
}

/// Makes each fault once, without nodes and clients.
fn rehearse(stage: &mut Stage, plan: &Plan) -> Result<ExitCode> {
    let signals = Arc::new(Signals::new(0, 1.0));
    let windows = director::direct(plan, stage, &signals, &AtomicBool::new(false));
    let mut out = io::stdout();
    for Window { fault, began, ended, failed, .. } in &windows {
        let took = report::seconds(*ended, *began);
        let outcome = failed.as_ref().map_or("done", String::as_str);
        writeln!(out, "{fault:20} {took:6.2} s  {outcome}")?;
    }
    Ok(crate::report::exit_code(windows.iter().all(|window| window.failed.is_none())))
}

/// What a run brought.
struct Show {
    plan: Plan,
    windows: Vec<Window>,
    changes: Vec<Vec<Change>>,
    stalls: Vec<Stall>,
    asked: Vec<Asked>,
    journal: Journal,
    counts: Counts,
    not_back: u64,
}

/// Lets clients come and go while the director makes faults.
fn perform(args: &Args, stage: &mut Stage, mut plan: Plan) -> Result<Show> {
    fastrand::seed(plan.seed);
    let flock = check::Args::half_steady(stage.targets(), args.clients, args.channels, args.rate)?;
    plan.channels = flock.channel_names();
    let mut swarm = Swarm::new(&flock)?;
    let signals = Arc::new(Signals::new(args.channels, args.rate));
    swarm.record(Arc::clone(&signals));
    tell(plan.origin, "clients connect");
    swarm.gather()?;
    let nodes: Vec<SocketAddr> = stage.nodes.iter().map(|node| node.address).collect();
    let (readiness, sleeper) = (Readiness::watch(&nodes, &signals), Sleeper::start());
    let control = stage.topology.has_several().then(|| Control::start(stage)).transpose()?;
    let (stop, origin) = (AtomicBool::new(false), plan.origin);
    plan.time += Duration::from_nanos(clock::now() - origin);
    let longest = nanoseconds(plan.time + OVERTIME_MAX);
    let windows = thread::scope(|scope| {
        let director = scope.spawn(|| director::direct(&plan, stage, &signals, &stop));
        let mut progress = PROGRESS_NS;
        let published = swarm.publish_while(|swarm, elapsed| {
            if elapsed >= progress {
                progress += PROGRESS_NS;
                tell(origin, &format!("{}; {} away", swarm.counts(), swarm.absent()));
            }
            !director.is_finished() && elapsed < longest
        });
        stop.store(true, Ordering::Relaxed);
        let windows = director.join().ok().context("the director fell over");
        published.and(windows)
    })?;
    swarm.settle()?;
    let (counts, not_back) = (swarm.final_counts(), swarm.absent());
    let journal = swarm.into_journal().context("it was recorded")?;
    let (changes, stalls) = (readiness.finish(), sleeper.finish());
    let asked = control.map_or_else(Vec::new, Control::finish);
    Ok(Show { plan, windows, changes, stalls, asked, journal, counts, not_back })
}

fn judge(args: &Args, show: &Show) -> Report {
    let Show { plan, windows, changes, stalls, asked, journal, counts, not_back } = show;
    tell(plan.origin, "examining what everybody saw");
    let findings = examine::examine(journal);
    let waits = Waits::new(journal, windows, asked);
    let report = |window: &Window| {
        let said = readiness::during(changes, window);
        let stall = stalls::longest(stalls, &(window.began..window.until));
        FaultReport::new(window, plan.origin, (waits.effect(window), stall), said, &findings)
    };
    let faults: Vec<FaultReport> = windows.iter().map(report).collect();
    let reached = |name: &str| windows.iter().any(|window| window.fault == name);
    let names = plan.faults.iter().map(|fault| fault.name);
    let broken = report::by_kind(findings.broken.iter());
    // A run that tried nothing has shown nothing.
    let right = !faults.is_empty()
        && broken.is_empty()
        && *not_back == 0
        && counts.deliveries > 0
        && faults.iter().all(FaultReport::is_right);
    Report {
        topology: args.topology,
        seed: plan.seed,
        nodes: args.nodes,
        clients: args.clients,
        faults,
        not_reached: names.filter(|name| !reached(name)).collect(),
        seen: counts.clone(),
        resets: findings.resets,
        again_after_reset: findings.again_after_reset,
        unknown_there: findings.unknown_there,
        not_back: *not_back,
        broken,
        examples: report::examples(&findings, plan.origin),
        right,
    }
}

/// Whatever hangs, this process and all that it started end then.
pub(crate) fn end_at_the_latest_in(time: Duration) {
    thread::spawn(move || {
        thread::sleep(time);
        let _ = writeln!(io::stderr(), "error: still not at the end after {time:?}");
        if let Some(own) = i32::try_from(process::id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(own, Signal::TERM);
        }
    });
}

const PROGRESS_NS: u64 = 10 * clock::SECOND;
/// How long all clients may take to be there.
const START_MAX: Duration = Duration::from_secs(60);
/// What comes on top of the time: the last fault, the rest behind it, the last deliveries.
const OVERTIME_MAX: Duration = Duration::from_secs(120);
