//! `dunlin-bench publish`: how many publications a second a server takes from centrifuge clients
//! that publish without waiting for each answer.

use std::{collections::BTreeMap, fmt, process::ExitCode, time::Duration};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::{
    centrifuge::Command,
    clock::{self, SECOND, nanoseconds},
    connection::{Connection, Ending},
    epoll::Epoll,
    load::{Answer, Dialect, Heard, PUBLISH_ID},
    open::{self, Opening},
    payload::Stamp,
    report::{self, by_name, counts},
    target::Servers,
    watch::Watch,
};

/// Arguments of `dunlin-bench publish`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    servers: Servers,
    /// What to speak [default: by the path of the first URL]
    #[arg(long, value_enum)]
    dialect: Option<Dialect>,
    /// Connections that publish
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Channels they publish to, at bench-0 and so on
    #[arg(long, default_value_t = 16)]
    channels: usize,
    /// Publications each connection keeps without an answer, sent in as few frames as answers allow
    #[arg(long, default_value_t = 64)]
    window: u32,
    /// Bytes per message
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Also subscribe each connection to its channel, where only subscribers may publish
    #[arg(long)]
    subscribe: bool,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How it went.
#[derive(Debug, Serialize)]
pub(crate) struct Published {
    pub(crate) connections: usize,
    pub(crate) window: u32,
    pub(crate) seconds: f64,
    /// Publications the server said are in the stream.
    pub(crate) acknowledged: u64,
    pub(crate) publications_per_second: f64,
    /// Publications it refused.
    pub(crate) refused: u64,
    /// Messages that came back to subscribers.
    pub(crate) deliveries: u64,
    /// Connections that could not be opened, by kind.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Connections the server ended.
    pub(crate) closed: BTreeMap<String, u64>,
    /// CPU time of each watched server as a share of one core.
    pub(crate) server_cpu: Vec<f64>,
}

/// Publishes; exit code 1 when anything was refused or a connection failed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(args.size >= Stamp::BYTES, "--size must be at least {}", Stamp::BYTES);
    ensure!(args.channels > 0 && args.window > 0, "--channels and --window must be above 0");
    let mut crowd = Crowd::open(args)?;
    let mut watch = Watch::new(&args.servers.pids)?;
    watch.start()?;
    let started = clock::now();
    crowd.publish_until(started + nanoseconds(Duration::try_from_secs_f64(args.seconds)?))?;
    let seconds = (clock::now() - started) as f64 / SECOND as f64;
    let servers = watch.stop()?;
    let published = Published {
        connections: args.connections,
        window: args.window,
        seconds,
        acknowledged: crowd.acknowledged,
        publications_per_second: crowd.acknowledged as f64 / seconds,
        refused: crowd.refused,
        deliveries: crowd.deliveries,
        failures: crowd.failures,
        closed: by_name(crowd.closed),
        server_cpu: servers.iter().map(|used| used.cpu.as_secs_f64() / seconds).collect(),
    };
    report::print(&published, args.json)?;
    let right = published.refused == 0 && published.acknowledged > 0;
    Ok(report::exit_code(right && published.failures.is_empty() && published.closed.is_empty()))
}

/// All connections.
struct Crowd {
    dialect: Dialect,
    channels: usize,
    window: u32,
    payload: Vec<u8>,
    epoll: Epoll,
    buffer: Box<[u8]>,
    members: Vec<Option<Connection>>,
    sequence: u32,
    acknowledged: u64,
    refused: u64,
    deliveries: u64,
    failures: BTreeMap<String, u64>,
    closed: BTreeMap<Ending, u64>,
}

impl Crowd {
    fn open(args: &Args) -> Result<Self> {
        open::allow_connections(args.connections)?;
        let dialect = args.dialect.unwrap_or_else(|| Dialect::at(&args.servers.urls[0]));
        let Some(encoding) = dialect.encoding() else {
            bail!("plain clients get no answers: use a centrifuge dialect");
        };
        let wanted = (0..args.connections).map(|number| {
            let target = &args.servers.urls[number % args.servers.urls.len()];
            (number, target, encoding.path(&target.path))
        });
        let Opening { opened, failures, .. } = open::open(wanted, 64)?;
        let mut crowd = Self {
            dialect,
            channels: args.channels,
            window: args.window,
            payload: vec![b'.'; args.size],
            epoll: Epoll::new()?,
            buffer: vec![0; 1 << 20].into(),
            members: (0..args.connections).map(|_| None).collect(),
            sequence: 0,
            acknowledged: 0,
            refused: 0,
            deliveries: 0,
            failures: by_name(failures),
            closed: BTreeMap::new(),
        };
        for opened in opened {
            crowd.epoll.add_readable(&opened.socket, opened.number)?;
            let mut connection = Connection::new(opened.socket, opened.leftover);
            let channel = args.subscribe.then(|| crowd.channel(opened.number));
            connection.queue(encoding.opcode(), &dialect.greeting(channel.as_deref()), MASK);
            crowd.members[opened.number] = Some(connection);
        }
        Ok(crowd)
    }

    /// Keeps every window full until `deadline`.
    fn publish_until(&mut self, deadline: u64) -> Result<()> {
        for number in 0..self.members.len() {
            self.publish(number, self.window);
        }
        while clock::now() < deadline {
            self.epoll.wait(Some(deadline))?;
            for index in 0..self.epoll.ready_count() {
                let Some(ready) = self.epoll.ready(index) else { continue };
                let answered = if ready.readable { self.receive(ready.token) } else { 0 };
                self.publish(ready.token, answered);
            }
        }
        Ok(())
    }

    /// Reads answers; says how many publications they were for.
    fn receive(&mut self, number: usize) -> u32 {
        let Self { members, buffer, dialect, payload, .. } = self;
        let Some(connection) = &mut members[number] else { return 0 };
        let (mut answered, mut refused, mut deliveries, mut pings) = (0, 0, 0, 0);
        let received = connection.receive(buffer).and_then(|filled| {
            connection.read(&buffer[..filled], |frame| {
                dialect.hear(frame, payload.len(), |heard| match heard {
                    Heard::Answer(id, Answer::Yes) => answered += u32::from(id >= PUBLISH_ID),
                    Heard::Answer(_, Answer::No) => refused += 1,
                    Heard::Message(_) => deliveries += 1,
                    Heard::Ping => pings += 1,
                    Heard::Other => {}
                });
            })
        });
        if let (1.., Some(encoding)) = (pings, dialect.encoding()) {
            let mut frame = Vec::new();
            encoding.put(&mut frame, 0, Command::Pong);
            connection.queue(encoding.opcode(), &frame, MASK);
        }
        self.acknowledged += u64::from(answered);
        self.refused += u64::from(refused);
        self.deliveries += deliveries;
        if let Err(ending) = received {
            self.end(number, ending);
        }
        answered + refused
    }

    /// Sends so many publications in one frame, and whatever is left from before.
    fn publish(&mut self, number: usize, count: u32) {
        let channel = self.channel(number);
        let (Some(connection), Some(encoding)) =
            (&mut self.members[number], self.dialect.encoding())
        else {
            return;
        };
        let mut frame = Vec::new();
        for _ in 0..count {
            let (sequence, sent_ns) = (self.sequence, 0);
            Stamp { run: 0, publisher: number as u32, sequence, sent_ns }.write(&mut self.payload);
            let data = &String::from_utf8_lossy(&self.payload);
            let id = PUBLISH_ID + (sequence & 0xFF_FFFF);
            encoding.put(&mut frame, id, Command::Publish { channel: &channel, data });
            self.sequence = sequence.wrapping_add(1);
        }
        if !frame.is_empty() {
            connection.queue(encoding.opcode(), &frame, MASK);
        }
        if let Err(ending) = connection.flush_watched(&self.epoll, number) {
            self.end(number, ending);
        }
    }

    fn end(&mut self, number: usize, ending: Ending) {
        if self.members[number].take().is_some() {
            *self.closed.entry(ending).or_default() += 1;
        }
    }

    fn channel(&self, number: usize) -> String {
        format!("bench-{}", number % self.channels)
    }
}

impl fmt::Display for Published {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "load         {} connections, window {}, {:.1} s",
            self.connections, self.window, self.seconds
        )?;
        writeln!(
            out,
            "published    {} ({:.0} per second), {} refused, {} deliveries",
            self.acknowledged, self.publications_per_second, self.refused, self.deliveries
        )?;
        writeln!(out, "not opened   {}", counts(&self.failures))?;
        writeln!(out, "closed       {}", counts(&self.closed))?;
        for share in &self.server_cpu {
            writeln!(out, "server       {:.0} % of a core", share * 100.0)?;
        }
        Ok(())
    }
}

const MASK: [u8; 4] = [0x91, 0x2B, 0x6D, 0x44];
