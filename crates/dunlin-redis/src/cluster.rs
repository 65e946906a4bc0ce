//! Asks the nodes of a cluster who owns what, a few at a time, and judges what they say.
//! (Redis cluster specification, configuration handling and failovers.)

pub(crate) mod map;

mod report;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::resume_unwind,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    map::{Map, NodeId, judge},
    report::{Asked, Report},
};
use crate::{
    link::{
        command,
        connection::Connection,
        dial::Dialer,
        error::{LinkError, tells_not_ready},
        greeting::reply,
        inquiry::{ANSWER_WAIT, rest},
        place::Place,
        reconnect::Backoff,
        value::Value,
    },
    news,
    url::{Address, Endpoint, Security, Seeds},
};

/// Watches a cluster.
pub(crate) struct Watch {
    dialer: Dialer,
    security: Security,
    candidates: VecDeque<Candidate>,
    /// Those that are asked at the moment, and what they said last.
    asked: BTreeMap<(String, u16), Option<Report>>,
    /// Why the others, and those that have not answered yet, are not heard.
    complaints: BTreeMap<(String, u16), Complaint>,
    news: watch::Sender<News>,
    doubt: Arc<Notify>,
}

/// What is known of who owns what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    Map(Map),
    /// Nobody has ever said.
    Unknown {
        why: String,
        /// Whether it makes sense to wait.
        is_passing: bool,
    },
}

/// A node that may be asked.
struct Candidate {
    address: (String, u16),
    /// None of one that the url names: it is asked even if no node knows it by this address.
    id: Option<NodeId>,
    backoff: Backoff,
    /// Why it could not be asked the last time.
    failure: Option<LinkError>,
}

impl Watch {
    /// A watch that knows nothing yet, what it will tell, and what to ring if that leads nowhere.
    pub(crate) fn new(
        dialer: &Dialer,
        seeds: &Seeds,
    ) -> (Self, watch::Receiver<News>, Arc<Notify>) {
        let why = "no node has answered yet".to_owned();
        let (news, told) = watch::channel(News::Unknown { why, is_passing: true });
        let doubt = Arc::new(Notify::new());
        let seed = |address: &(String, u16)| Candidate::new(address.clone(), None);
        let watch = Self {
            dialer: dialer.with_frame_bytes_max(ANSWER_BYTES_MAX),
            security: seeds.security,
            candidates: seeds.addresses.iter().map(seed).collect(),
            asked: BTreeMap::new(),
            complaints: BTreeMap::new(),
            news,
            doubt: Arc::clone(&doubt),
        };
        (watch, told, doubt)
    }

    /// Keeps asking, for ever.
    pub(crate) async fn run(mut self) {
        let (say, mut said) = mpsc::channel(ASKED_MAX);
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < ASKED_MAX
                && let Some(candidate) = self.next_candidate()
            {
                asking.spawn(candidate.ask(self.inquiry(), say.clone()));
            }
            tokio::select! {
                Some(ended) = asking.join_next() => match ended {
                    Ok(candidate) => self.note_lost(candidate),
                    // Cancelled is only what ends with the runtime.
                    Err(end) => end.try_into_panic().map_or((), |bug| resume_unwind(bug)),
                },
                Some((address, report)) = said.recv() => self.note(&address, report),
            }
        }
    }

    /// Who was not asked for the longest time.
    fn next_candidate(&mut self) -> Option<Candidate> {
        let asked: BTreeSet<_> = self.asked.values().flatten().map(|report| &report.by).collect();
        let is_new = |it: &Candidate| {
            !self.asked.contains_key(&it.address)
                && !it.id.as_ref().is_some_and(|id| asked.contains(id))
        };
        let place = self.candidates.iter().position(is_new)?;
        let candidate = self.candidates.remove(place)?;
        self.asked.insert(candidate.address.clone(), None);
        Some(candidate)
    }

    fn inquiry(&self) -> Inquiry {
        let (dialer, doubt) = (self.dialer.clone(), Arc::clone(&self.doubt));
        Inquiry { dialer, security: self.security, doubt }
    }

    /// Another one takes its turn. What it said does not count any more: it may miss what happens.
    fn note_lost(&mut self, candidate: Candidate) {
        self.asked.remove(&candidate.address);
        if let Some(why) = &candidate.failure {
            let (host, port) = &candidate.address;
            tracing::debug!(address = %Address(host, *port), "cluster node {why}");
            let complaint = Complaint { text: why.to_string(), is_passing: why.is_passing() };
            self.complaints.insert(candidate.address.clone(), complaint);
        }
        self.candidates.push_back(candidate);
        self.tell();
    }

    fn note(&mut self, address: &(String, u16), report: Report) {
        // What it said last may come after its end.
        let Some(last) = self.asked.get_mut(address) else { return };
        *last = Some(report);
        self.complaints.remove(address);
        self.learn();
        self.tell();
    }

    /// Whom the nodes name may be asked, and whom nobody names any more may not.
    fn learn(&mut self) {
        let mut named = BTreeMap::new();
        for (id, node) in self.asked.values().flatten().flat_map(|report| &report.nodes) {
            if let Some(Endpoint::Tcp { host, port, .. }) = &node.endpoint {
                named.insert((host.clone(), *port), id.clone());
            }
        }
        self.candidates.retain(|it| it.id.is_none() || named.contains_key(&it.address));
        let candidates = &self.candidates;
        let is_candidate =
            |address: &(String, u16)| candidates.iter().any(|it| it.address == *address);
        named.retain(|address, _| !self.asked.contains_key(address) && !is_candidate(address));
        let new = named.into_iter().map(|(address, id)| Candidate::new(address, Some(id)));
        self.candidates.extend(new);
    }

    fn complain(&self) -> News {
        let complain = |((host, port), complaint): (&(String, u16), &Complaint)| {
            format!("{} {}", Address(host, *port), complaint.text)
        };
        let why: Vec<_> = self.complaints.iter().map(complain).collect();
        let is_passing = self.complaints.values().any(|complaint| complaint.is_passing);
        News::Unknown { why: why.join("; "), is_passing: is_passing || why.is_empty() }
    }

    fn tell(&self) {
        let reports: Vec<_> = self.asked.values().flatten().collect();
        let was_known = matches!(*self.news.borrow(), News::Map(_));
        let news = match &reports[..] {
            // What all said last may well be right still.
            [] if was_known => return,
            [] => self.complain(),
            reports => News::Map(judge(reports)),
        };
        news::tell(&self.news, news);
    }
}

/// Why a node is not heard.
struct Complaint {
    text: String,
    is_passing: bool,
}

/// How a node is asked.
struct Inquiry {
    dialer: Dialer,
    security: Security,
    doubt: Arc<Notify>,
}

impl Candidate {
    fn new(address: (String, u16), id: Option<NodeId>) -> Self {
        Self { address, id, backoff: Backoff::default(), failure: None }
    }

    /// Asks the node until it is lost.
    async fn ask(mut self, inquiry: Inquiry, say: mpsc::Sender<((String, u16), Report)>) -> Self {
        if let Some(failure) = &self.failure {
            sleep(self.backoff.next_wait(failure.failure())).await;
        }
        let (host, port) = self.address.clone();
        let place = Place::Fixed(Endpoint::Tcp { host, port, security: inquiry.security });
        let dialled = timeout(ANSWER_WAIT, inquiry.dialer.at(place).dial_informant()).await;
        let lost = match dialled.unwrap_or(Err(LinkError::Timeout(ANSWER_WAIT))) {
            Ok(connection) => {
                self.backoff = Backoff::default();
                self.listen(connection, &inquiry, say).await
            }
            Err(error) => error,
        };
        self.failure = Some(lost);
        self
    }

    /// Returns why the connection was lost.
    async fn listen(
        &self,
        mut connection: Connection,
        inquiry: &Inquiry,
        say: mpsc::Sender<((String, u16), Report)>,
    ) -> LinkError {
        let asked = Asked { host: &self.address.0, security: inquiry.security };
        loop {
            let mut doubted = pin!(inquiry.doubt.notified());
            doubted.as_mut().enable();
            match timeout(ANSWER_WAIT, question(&mut connection, &asked)).await {
                // Whoever does not want to hear it drops this, too.
                Ok(Ok(report)) => drop(say.send((self.address.clone(), report)).await),
                Ok(Err(lost)) => return lost,
                Err(_) => return LinkError::Timeout(ANSWER_WAIT),
            }
            if let Err(lost) = rest(&mut connection, doubted).await {
                return lost;
            }
        }
    }
}

/// Both at once, so that they are of the same moment.
async fn question(connection: &mut Connection, asked: &Asked<'_>) -> Result<Report, LinkError> {
    command::write(&mut connection.out, &[b"CLUSTER", b"SLOTS"]);
    command::write(&mut connection.out, &[b"CLUSTER", b"NODES"]);
    connection.expect(2);
    let (slots, nodes) = (reply(connection).await?, reply(connection).await?);
    for answer in [&slots, &nodes] {
        if let Value::Error(text) = answer {
            let complaint = String::from_utf8_lossy(text).into_owned();
            return Err(match tells_not_ready(text) {
                true => LinkError::NotReady(complaint),
                false => LinkError::Refused(complaint),
            });
        }
    }
    Report::read(&slots, &nodes, asked)
        .ok_or_else(|| LinkError::Protocol("its answer to CLUSTER SLOTS or NODES".to_owned()))
}

/// How long until what was elsewhere is asked for again: longer than it takes to learn where it is.
pub(crate) const ELSEWHERE_PAUSE: Duration = Duration::from_millis(100);
/// How many nodes are asked at a time: enough that one of them knows what is new.
const ASKED_MAX: usize = 5;
/// Every slot may stand alone.
const ANSWER_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests;
