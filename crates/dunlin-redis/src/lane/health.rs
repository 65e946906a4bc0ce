//! The health of a lane: what its links say of themselves, and what its probe proves. A link that
//! stands proves nothing: its server may have been demoted, be full, or be another one than that of
//! the link beside it. So a probe goes the whole way of a publication, again and again, and a lane
//! is ready as long as its last one came back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dunlin_core::broker::Outage;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    link::{complaints::Complaints, error::LinkError, greeting::Server},
    news,
};

/// One of a lane's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    Publish,
    Read,
    /// With a number, from 0.
    Subscribe(usize),
}

impl LinkKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe(_) => "subscribe",
            Self::Read => "read",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Publish => 0,
            Self::Read => 1,
            Self::Subscribe(number) => 2 + number,
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Health {
    address: Arc<str>,
    state: Mutex<State>,
    /// Kept beside the state, to be asked before every join.
    is_ready: AtomicBool,
    /// What the state comes to; tells of each change.
    verdict: watch::Sender<Option<Arc<str>>>,
    /// The reign that the newest greeting told.
    reign: watch::Sender<u32>,
    complaints: Complaints,
    /// A probe sent now would come back.
    listening: Notify,
}

#[derive(Debug)]
struct State {
    links: Vec<Link>,
    probe: Probe,
    /// Whether the subscribe link does not listen: what it does not hear proves nothing then.
    is_deaf: bool,
    refusal: Option<Arc<str>>,
    /// Since when nothing else is wrong.
    well_since: Option<Instant>,
    /// Whether that is long enough ago.
    is_settled: bool,
    /// When the server followed upon another one.
    succeeded_at: Option<Instant>,
    /// Whether the lane was ever ready: before that nobody lost anything.
    has_stood: bool,
    away: Away,
}

/// What is known of a link.
#[derive(Debug, Default, Clone)]
struct Link {
    /// Why it is down; nothing = it is up.
    down: Option<Arc<str>>,
    reign: u32,
}

/// The probes that are under way: how far the last ones came, and since when none has come further
/// although one was sent.
#[derive(Debug, Default)]
struct Probe {
    sent: u64,
    heard: u64,
    unanswered_since: Option<Instant>,
    unheard_since: Option<Instant>,
}

#[derive(Debug)]
struct Away {
    total: Duration,
    since: Option<Instant>,
}

impl Health {
    /// A lane whose links are not made yet.
    pub(crate) fn new(address: Arc<str>) -> Self {
        let beginning: Arc<str> = "is not connected yet".into();
        let state = State {
            links: vec![Link { down: Some(Arc::clone(&beginning)), reign: 0 }; LINKS],
            probe: Probe::default(),
            is_deaf: false,
            refusal: None,
            well_since: None,
            is_settled: false,
            succeeded_at: None,
            has_stood: false,
            away: Away { total: Duration::ZERO, since: Some(Instant::now()) },
        };
        Self {
            address,
            state: Mutex::new(state),
            is_ready: false.into(),
            verdict: watch::Sender::new(Some(beginning)),
            reign: watch::Sender::new(0),
            complaints: Complaints::default(),
            listening: Notify::new(),
        }
    }

    /// The address of the lane's server.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether the lane carries what is published. Cheap.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// What is wrong, if anything is.
    pub(crate) fn outage(&self) -> Option<Outage> {
        let reason = self.verdict.borrow().clone()?;
        Some(Outage { part: Arc::clone(&self.address), reason })
    }

    /// What keeps a channel from being joined, if anything does. Not that the lane is back only
    /// just, which is for the sake of what other nodes miss: clients are told to come back as soon
    /// as somebody publishes, and would be refused.
    pub(crate) fn hindrance(&self) -> Option<Outage> {
        if self.is_ready() {
            return None;
        }
        let reason = self.state.lock().wrong(Instant::now())?;
        Some(Outage { part: Arc::clone(&self.address), reason })
    }

    /// Tells of each change of what is wrong.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.verdict.subscribe()
    }

    /// Time without this lane, also while it lasts.
    pub(crate) fn away(&self) -> Duration {
        let state = self.state.lock();
        state.away.total + state.away.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Which server the lane is at, by its newest greeting; 0 if that does not tell.
    pub(crate) fn reign(&self) -> u32 {
        *self.reign.borrow()
    }

    pub(crate) fn note_up(&self, link: LinkKind, server: Server) {
        let newest = self.reign();
        self.change(|state| {
            if ![0, newest].contains(&server.reign) && newest != 0 {
                state.succeeded_at = Some(Instant::now());
            }
            *state.link(link) = Link { down: None, reign: server.reign };
        });
        if server.reign != 0 {
            news::tell(&self.reign, server.reign);
        }
    }

    pub(crate) fn note_down(&self, link: LinkKind, why: &LinkError) {
        self.change(|state| {
            state.link(link).down = Some(why.to_string().into());
            if matches!(link, LinkKind::Publish | LinkKind::Subscribe(0)) {
                state.probe.restart();
            }
        });
    }

    /// Whether nodes may yet put back what the server lacks of what an earlier one acknowledged.
    pub(crate) fn is_succession_fresh(&self) -> bool {
        let succeeded_at = self.state.lock().succeeded_at;
        succeeded_at.is_some_and(|at| at.elapsed() < SUCCESSION)
    }

    /// Waits until a newer greeting told of another server than `server`. Cancel-safe.
    pub(crate) async fn elsewhere(&self, server: Server) {
        let is_other = |newest: &u32| server.reign != 0 && *newest != server.reign;
        let mut reign = self.reign.subscribe();
        // The sender is ours, so there is no error.
        let _ = reign.wait_for(is_other).await;
    }

    /// The subscribe link listens from now on: whoever sends probes need not wait for the next.
    pub(crate) fn note_listening(&self) {
        self.listening.notify_one();
    }

    /// Waits until the subscribe link has begun to listen. For one waiter. Cancel-safe.
    pub(crate) async fn listening(&self) {
        self.listening.notified().await;
    }

    /// The number of the probe to send now.
    pub(crate) fn send_probe(&self) -> u64 {
        let now = Instant::now();
        let mut state = self.state.lock();
        let probe = &mut state.probe;
        probe.sent += 1;
        probe.unanswered_since.get_or_insert(now);
        probe.unheard_since.get_or_insert(now);
        probe.sent
    }

    /// The server answered a probe; `refusal` is its error.
    pub(crate) fn note_answered(&self, number: u64, refusal: Option<&str>) {
        self.change(|state| {
            if state.refusal.as_deref() != refusal {
                state.refusal = refusal.map(Arc::from);
            }
            let probe = &mut state.probe;
            probe.unanswered_since = (number < probe.sent).then(Instant::now);
            if refusal.is_some() {
                // It was not published, so nobody waits to hear it.
                probe.unheard_since = None;
            }
        });
    }

    /// A probe came back on the subscribe link.
    pub(crate) fn note_heard(&self, number: u64) {
        self.change(|state| {
            let probe = &mut state.probe;
            probe.heard = probe.heard.max(number);
            probe.unheard_since = (number < probe.sent).then(Instant::now);
        });
    }

    /// The subscribe link does not listen, or does again.
    pub(crate) fn note_deaf(&self, is_deaf: bool) {
        self.change(|state| {
            state.is_deaf = is_deaf;
            if let Some(since) = &mut state.probe.unheard_since {
                *since = Instant::now();
            }
        });
    }

    /// Nothing is carried any more, for good.
    pub(crate) fn close(&self) {
        let left: Arc<str> = "is left".into();
        self.change(|state| {
            state.links.iter_mut().for_each(|it| it.down = Some(Arc::clone(&left)))
        });
    }

    /// Sees whether something should have come by now.
    pub(crate) fn review(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let wrong = state.verdict(Instant::now());
        state.away.note(wrong.is_none());
        self.is_ready.store(wrong.is_none(), Ordering::Release);
        // Under the lock, so that the last change is told last.
        let has_changed = news::tell(&self.verdict, wrong.clone());
        drop(state);
        if has_changed {
            self.tell(wrong.as_deref());
        }
    }

    /// Each reason once in a while: a lane may come and go many times a minute.
    fn tell(&self, wrong: Option<&str>) {
        let address = &self.address;
        let is_due = self.complaints.is_due(wrong.unwrap_or_default());
        match wrong {
            None if is_due => tracing::info!(%address, "redis is ready"),
            None => tracing::debug!(%address, "redis is ready"),
            Some(reason) if is_due => tracing::warn!(%address, "redis {reason}"),
            Some(reason) => tracing::debug!(%address, "redis {reason}"),
        }
    }
}

impl State {
    /// A link that was added later was up until it is told otherwise.
    fn link(&mut self, link: LinkKind) -> &mut Link {
        let place = link.place();
        if place >= self.links.len() {
            self.links.resize(place + 1, Link::default());
        }
        &mut self.links[place]
    }

    /// What is wrong; and for a moment after nothing is, that it was.
    fn verdict(&mut self, now: Instant) -> Option<Arc<str>> {
        let wrong = self.wrong(now);
        if wrong.is_some() {
            (self.well_since, self.is_settled) = (None, false);
            return wrong;
        }
        let since = *self.well_since.get_or_insert(now);
        self.is_settled |= !self.has_stood || now - since >= SETTLE;
        self.has_stood |= self.is_settled;
        (!self.is_settled).then(|| "is back only just".into())
    }

    fn wrong(&self, now: Instant) -> Option<Arc<str>> {
        let down = self.links.iter().find_map(|link| link.down.clone());
        let late = |since: Option<Instant>| since.is_some_and(|since| now - since >= PROBE_WAIT);
        let probe = &self.probe;
        let told = |text: &str| Some(Arc::from(text));
        down.or_else(|| {
            let known = || self.links.iter().map(|link| link.reign).filter(|reign| *reign != 0);
            let differ = known().any(|reign| Some(reign) != known().next());
            if differ { told("leads its links to different servers") } else { None }
        })
        .or_else(|| self.refusal.clone())
        .or_else(|| match () {
            () if late(probe.unanswered_since) => told("does not answer what is published"),
            () if late(probe.unheard_since) && !self.is_deaf => {
                told("does not deliver what is published")
            }
            () if probe.heard == 0 => told("has not delivered anything yet"),
            () => None,
        })
    }
}

impl Probe {
    /// What was under way on a connection that is lost counts no more, and a new one has to prove
    /// itself.
    fn restart(&mut self) {
        *self = Self { sent: self.sent, ..Self::default() };
    }
}

impl Away {
    fn note(&mut self, is_ready: bool) {
        match (is_ready, self.since) {
            (false, None) => self.since = Some(Instant::now()),
            (true, Some(since)) => {
                self.total += since.elapsed();
                self.since = None;
            }
            _ => {}
        }
    }
}

/// Those that a lane has from the start.
const LINKS: usize = 3;

/// How often a probe is sent.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long one may be under way. With the interval this is how long a lane can be believed in that
/// carries nothing.
const PROBE_WAIT: Duration = Duration::from_millis(1500);

/// How long other nodes may need more to be back than this one: they lost Redis too, and what they
/// are not subscribed to in time they never get.
const SETTLE: Duration = Duration::from_millis(300);

/// How long nodes take to meet a new server and to put back what it lacks.
const SUCCESSION: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn server(reign: u32) -> Server {
        Server { reign, connection: 1 }
    }

    fn proven() -> Health {
        let health = Health::new("redis://here".into());
        for link in [LinkKind::Publish, LinkKind::Subscribe(0), LinkKind::Read] {
            health.note_up(link, server(7));
        }
        let number = health.send_probe();
        health.note_heard(number);
        health.note_answered(number, None);
        health
    }

    async fn settle(health: &Health) {
        check(health, Some("is back only just"));
        assert_eq!(health.hindrance(), None, "channels can be joined");
        advance(SETTLE).await;
        health.review();
    }

    fn check(health: &Health, reason: Option<&str>) {
        assert_eq!(health.outage().map(|outage| outage.reason).as_deref(), reason);
        assert_eq!(health.is_ready(), reason.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn links_that_stand_prove_nothing() {
        let health = Health::new("redis://here".into());
        check(&health, Some("is not connected yet"));
        for link in [LinkKind::Publish, LinkKind::Subscribe(0), LinkKind::Read] {
            check(&health, Some("is not connected yet"));
            health.note_up(link, server(7));
        }
        check(&health, Some("has not delivered anything yet"));
        check(&proven(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_does_not_come_back_is_an_outage_until_one_does() {
        let health = proven();
        let number = health.send_probe();
        advance(PROBE_WAIT / 2).await;
        health.note_answered(number, None);
        health.review();
        check(&health, None);
        advance(PROBE_WAIT / 2).await;
        health.review();
        check(&health, Some("does not deliver what is published"));
        health.note_heard(number);
        settle(&health).await;
        check(&health, None);

        let number = health.send_probe();
        advance(PROBE_WAIT).await;
        health.review();
        check(&health, Some("does not answer what is published"));
        health.note_heard(number);
        check(&health, Some("does not answer what is published"));
        health.note_answered(number, None);
        settle(&health).await;
        check(&health, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_in_the_servers_words() {
        let health = proven();
        let number = health.send_probe();
        health.note_answered(number, Some("refuses what is published: OOM"));
        check(&health, Some("refuses what is published: OOM"));
        let number = health.send_probe();
        health.note_heard(number);
        health.note_answered(number, None);
        settle(&health).await;
        check(&health, None);
    }

    #[tokio::test(start_paused = true)]
    async fn links_to_different_servers_are_an_outage_and_the_older_ones_go() {
        let health = proven();
        health.note_up(LinkKind::Read, server(8));
        check(&health, Some("leads its links to different servers"));
        health.elsewhere(server(7)).await;
        health.note_up(LinkKind::Publish, server(8));
        health.note_up(LinkKind::Subscribe(0), server(8));
        settle(&health).await;
        check(&health, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_to_prove_itself() {
        let health = proven();
        health.note_down(LinkKind::Publish, &LinkError::Closed);
        check(&health, Some("closed the connection"));
        assert!(health.hindrance().is_some_and(|it| *it.reason == *"closed the connection"));
        advance(Duration::from_secs(3)).await;
        health.note_up(LinkKind::Publish, server(7));
        check(&health, Some("has not delivered anything yet"));
        let number = health.send_probe();
        health.note_answered(number, None);
        health.note_heard(number);
        settle(&health).await;
        check(&health, None);
        assert_eq!(health.away(), Duration::from_secs(3) + SETTLE);
    }
}
