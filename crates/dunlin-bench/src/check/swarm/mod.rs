//! All clients in one loop: connects, cuts, publishes, and hands everything to the judge.

mod receive;
mod record;

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Result, bail};

use super::{
    Args,
    client::{Client, Link, Session},
    judge::Judge,
    verdict::{Counts, Verdict},
};
use crate::{
    centrifuge::Encoding,
    clock::{self, SECOND, nanoseconds},
    epoll::Epoll,
    open::Attempt,
    payload::Stamp,
    report,
    target::Target,
};

/// The clients of a check.
pub(crate) struct Swarm {
    targets: Vec<Target>,
    encoding: Encoding,
    subscriptions: usize,
    rate: f64,
    /// Mean nanoseconds a connection lives, and a client is away.
    lives: f64,
    away: f64,
    /// Clients below this number are never cut.
    steady: usize,
    patience: u64,
    cutting: bool,
    run: u32,
    epoll: Epoll,
    buffer: Box<[u8]>,
    clients: Vec<Client>,
    judge: Judge,
    /// What is written down for an examination afterwards, if there will be one.
    recording: Option<record::Recording>,
    counts: Counts,
    opened: u64,
    /// Why the check makes no sense with this server.
    hopeless: Option<String>,
}

impl Swarm {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let client = |number: usize| Client {
            channels: (0..args.subscriptions)
                .map(|index| args.channel_name(args.channel(number, index)))
                .collect(),
            token: args.connect_token(number),
            link: Link::Down,
            due: 0,
            sequence: 0,
        };
        let readers: Vec<usize> = (0..args.clients)
            .flat_map(|client| (0..args.subscriptions).map(move |index| (client, index)))
            .map(|(client, index)| args.channel(client, index))
            .collect();
        let publishers: Vec<usize> =
            (0..args.clients).map(|client| args.channel(client, 0)).collect();
        let path =
            |target: &Target| Target { path: args.protocol.path(&target.path), ..target.clone() };
        Ok(Self {
            targets: args.urls.iter().map(path).collect(),
            encoding: args.protocol,
            subscriptions: args.subscriptions,
            rate: args.rate,
            lives: args.reconnect.as_nanos() as f64,
            away: args.away.as_nanos() as f64,
            steady: args.steady,
            patience: nanoseconds(args.patience),
            cutting: false,
            run: clock::now() as u32,
            epoll: Epoll::new()?,
            buffer: vec![0; BUFFER_BYTES].into(),
            clients: (0..args.clients).map(client).collect(),
            judge: Judge::new(args.channels, &readers, &publishers),
            recording: None,
            counts: Counts::default(),
            opened: 0,
            hopeless: None,
        })
    }

    /// Waits until all clients are subscribed.
    pub(crate) fn gather(&mut self) -> Result<()> {
        let patience = clock::now() + self.patience;
        while self.absent() > 0 {
            self.turn(clock::now() + TICK_NS)?;
            if clock::now() > patience {
                let Counts { failures, closed, refused, .. } = &self.counts;
                bail!(
                    "{} of {} clients could not subscribe; not opened: {}; closed: {}; refused: {}",
                    self.absent(),
                    self.clients.len(),
                    report::counts(failures),
                    report::counts(closed),
                    report::counts(refused),
                );
            }
        }
        Ok(())
    }

    /// Publishes at the wanted rate and cuts clients at random, for so long.
    pub(super) fn publish_for(&mut self, period: Duration) -> Result<()> {
        let (period, mut progress) = (nanoseconds(period), PROGRESS_NS);
        self.publish_while(|swarm, elapsed| {
            if elapsed >= progress {
                progress += PROGRESS_NS;
                swarm.tell(elapsed / SECOND);
            }
            elapsed < period
        })
    }

    /// Publishes at the wanted rate and cuts clients at random as long as `go_on` says so, which
    /// learns how many nanoseconds have passed.
    pub(crate) fn publish_while(
        &mut self,
        mut go_on: impl FnMut(&Self, u64) -> bool,
    ) -> Result<()> {
        let started = clock::now();
        self.cutting = true;
        for number in 0..self.clients.len() {
            self.clients[number].due = started + exponential(self.lives);
        }
        let mut published = 0_u64;
        loop {
            let now = clock::now();
            if !go_on(self, now - started) {
                break;
            }
            let mut due = started + (published as f64 / self.rate * SECOND as f64) as u64;
            while due <= now {
                self.publish(fastrand::usize(..self.clients.len()));
                published += 1;
                due = started + (published as f64 / self.rate * SECOND as f64) as u64;
            }
            self.turn(due.min(now + TICK_NS))?;
        }
        self.cutting = false;
        Ok(())
    }

    /// Lets all come back and receives what is still on its way, within bounds.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let patience = clock::now() + self.patience;
        while clock::now() < patience {
            let unanswered: u64 = self.sessions().map(Session::unanswered).sum();
            if self.absent() + self.judge.behind() + self.judge.lost() + unanswered == 0 {
                break;
            }
            self.turn(clock::now() + TICK_NS)?;
        }
        self.listen_on()
    }

    /// Lets all come back and receives what is still on its way; what is missing then an
    /// examination will tell.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let patience = clock::now() + self.patience;
        while clock::now() < patience {
            if self.absent() + self.sessions().map(Session::unanswered).sum::<u64>() == 0 {
                break;
            }
            self.turn(clock::now() + TICK_NS)?;
        }
        self.listen_on()
    }

    /// A little longer: for what comes late, or twice.
    fn listen_on(&mut self) -> Result<()> {
        let quiet = clock::now() + SECOND;
        while clock::now() < quiet {
            self.turn(quiet.min(clock::now() + TICK_NS))?;
        }
        Ok(())
    }

    /// What was found.
    pub(super) fn verdict(&self) -> Verdict {
        Verdict {
            counts: self.final_counts(),
            not_back: self.absent(),
            behind: self.judge.behind(),
            lost: self.judge.lost(),
            faults: self.judge.verdict(),
        }
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.clients.iter().filter_map(|client| match &client.link {
            Link::Open(session) => Some(session),
            _ => None,
        })
    }

    /// Counts at the end: what has no answer now is unknown.
    pub(crate) fn final_counts(&self) -> Counts {
        let unanswered = self.sessions().map(Session::unanswered).sum::<u64>();
        Counts { unknown: self.counts.unknown + unanswered, ..self.counts.clone() }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Clients that are not subscribed to everything now.
    pub(crate) fn absent(&self) -> u64 {
        (self.clients.len() - self.sessions().filter(|session| session.is_ready()).count()) as u64
    }

    fn tell(&self, seconds: u64) {
        let line = format!(
            "{seconds} s: {}; {}; {} away",
            self.counts,
            self.judge.faults(),
            self.absent()
        );
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Does what is due, then waits for the sockets until `deadline`.
    fn turn(&mut self, deadline: u64) -> Result<()> {
        let now = clock::now();
        for number in 0..self.clients.len() {
            if self.clients[number].due <= now {
                self.act(number);
            }
            self.subscribe_again(number, now);
        }
        self.epoll.wait(Some(deadline))?;
        for index in 0..self.epoll.ready_count() {
            if let Some(ready) = self.epoll.ready(index) {
                self.serve(ready);
            }
        }
        if let Some(reason) = self.hopeless.take() {
            bail!(reason);
        }
        Ok(())
    }

    /// A client's time has come: it returns, or gives up waiting, or is cut.
    fn act(&mut self, number: usize) {
        match &self.clients[number].link {
            Link::Down => self.open(number),
            Link::Opening(_) => {
                Counts::note(&mut self.counts.failures, "no answer".into());
                self.lose(number);
            }
            Link::Open(_) if self.cutting && number >= self.steady => self.cut(number),
            Link::Open(session) if !session.is_ready() => {
                Counts::note(&mut self.counts.closed, "no answer".into());
                self.lose(number);
            }
            Link::Open(_) => self.clients[number].due = u64::MAX,
        }
    }

    fn open(&mut self, number: usize) {
        // Nodes may be gone: the next attempt takes another one by chance.
        let target = &self.targets[fastrand::usize(..self.targets.len())];
        match Attempt::start(number, target, &target.path, &self.epoll, number) {
            Ok(attempt) => {
                self.clients[number].link = Link::Opening(attempt);
                self.clients[number].due = clock::now() + ANSWER_NS;
            }
            Err(errno) => {
                Counts::note(&mut self.counts.failures, errno.to_string());
                self.clients[number].due = clock::now() + REFUSED_NS;
            }
        }
    }

    /// Lets a client publish to its first channel, if it is there.
    fn publish(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Link::Open(session) = &mut client.link else { return };
        if !session.is_ready() {
            return;
        }
        let (run, sequence, now) = (self.run, client.sequence, clock::now());
        let bytes = self.recording.as_mut().map_or(Stamp::BYTES, |it| it.sent(number, now));
        let mut data = vec![b'.'; bytes];
        Stamp { run, publisher: number as u32, sequence, sent_ns: now }.write(&mut data);
        session.publish(&client.channels[0], sequence, &String::from_utf8_lossy(&data));
        client.sequence += 1;
        self.counts.publications += 1;
        self.send(number);
    }

    fn send(&mut self, number: usize) {
        let Link::Open(session) = &mut self.clients[number].link else { return };
        let sent = session.send(fastrand::u32(..).to_ne_bytes());
        let sent =
            sent.and_then(|all| session.connection.watch_for_room(&self.epoll, number, !all));
        if let Err(ending) = sent {
            Counts::note(&mut self.counts.closed, ending.to_string());
            self.lose(number);
        }
    }

    /// Cuts a connection: some right behind a publish, half of them without a word.
    fn cut(&mut self, number: usize) {
        if fastrand::u8(..20) == 0 {
            self.publish(number);
        }
        if let Link::Open(session) = self.leave(number)
            && fastrand::bool()
        {
            session.connection.close();
        }
    }

    fn fail(&mut self, number: usize, reason: String) {
        Counts::note(&mut self.counts.refused, reason);
        self.lose(number);
    }

    /// The end of a connection; the client comes back after a while.
    fn leave(&mut self, number: usize) -> Link {
        let client = &mut self.clients[number];
        client.due = clock::now() + exponential(self.away);
        let link = std::mem::replace(&mut client.link, Link::Down);
        if let Link::Open(session) = &link {
            self.counts.unknown += session.unanswered();
        }
        link
    }
}

/// A random time with this mean, as between independent events.
fn exponential(mean: f64) -> u64 {
    (-mean * (1.0 - fastrand::f64()).ln()) as u64
}

const BUFFER_BYTES: usize = 1 << 20;
const TICK_NS: u64 = SECOND / 200;
const PROGRESS_NS: u64 = 5 * SECOND;
/// How long to wait for one answer.
const ANSWER_NS: u64 = 10 * SECOND;
/// How long a client waits after a node refused it.
const REFUSED_NS: u64 = SECOND / 20;
