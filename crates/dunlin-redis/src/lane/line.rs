//! A line: the connections of one link, one after the other. It dials when one is lost, and dials
//! beside one that has fallen silent: whichever speaks first goes on. So a server that is busy
//! costs no connection, and one whose packets were lost is back as soon as the way is free.

use std::sync::Arc;

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    company::Company,
    health::{Health, LinkKind},
};
use crate::{
    link::{
        connection::Connection,
        dial::Dialer,
        error::LinkError,
        greeting::Server,
        reconnect::{Backoff, Failure},
    },
    metrics::{LinkLabel, LinkMetrics, RoundTripSeconds},
    url::Endpoint,
};

/// See the module's text.
pub(crate) struct Line {
    kind: LinkKind,
    dialer: Arc<Dialer>,
    pub(crate) health: Arc<Health>,
    company: Option<Arc<Company>>,
    pub(crate) metrics: LinkMetrics,
    label: LinkLabel,
    round_trip_seconds: RoundTripSeconds,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Makes the lines of a lane.
#[derive(Clone)]
pub(crate) struct Lines {
    pub(crate) dialer: Dialer,
    pub(crate) health: Arc<Health>,
    /// That of the node there; none where others say which server it is.
    pub(crate) company: Option<Arc<Company>>,
    pub(crate) metrics: LinkMetrics,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Lines {
    pub(crate) fn publish(&self) -> Line {
        self.line(LinkKind::Publish, self.dialer.clone())
    }

    pub(crate) fn subscribe(&self, number: usize) -> Line {
        self.line(LinkKind::Subscribe(number), self.dialer.clone())
    }

    /// One whose frames keep at most so many bytes.
    pub(crate) fn read(&self, frame_bytes_max: usize) -> Line {
        self.line(LinkKind::Read, self.dialer.with_frame_bytes_max(frame_bytes_max))
    }

    fn line(&self, kind: LinkKind, dialer: Dialer) -> Line {
        let Self { health, company, metrics, stop, .. } = self.clone();
        let label = LinkLabel { lane: health.address().to_string(), link: kind.as_str() };
        let round_trip_seconds = metrics.round_trip_seconds.get_or_create_owned(&label);
        let dialer = Arc::new(dialer);
        Line { kind, dialer, health, company, metrics, label, round_trip_seconds, stop }
    }
}

/// Which connection a line goes on with.
pub(crate) enum Next {
    /// The one that was silent speaks again.
    Same(Connection),
    New(Connection),
}

impl Line {
    /// The first connection.
    pub(crate) async fn connect(&self) -> Connection {
        let connection = self.dial(Failure::Instant).await;
        self.health.note_up(self.kind, connection.server);
        connection
    }

    /// The connection to go on with after `old` failed as `lost` tells. Cancel-safe, but for `old`.
    pub(crate) async fn next(&self, old: Connection, lost: &LinkError) -> Next {
        let address = self.health.address();
        let silent = match lost {
            LinkError::Silent(_) => Some(old),
            _ => {
                drop(old);
                self.doubt();
                self.health.note_down(self.kind, lost);
                None
            }
        };
        let next = match silent {
            None => Next::New(self.dial(lost.failure()).await),
            Some(old) => self.dial_beside(old, lost.failure()).await,
        };
        let (Next::Same(connection) | Next::New(connection)) = &next;
        // Dials beside one that is silent may have failed, and have said so.
        self.health.note_up(self.kind, connection.server);
        if let Next::New(_) = &next {
            self.metrics.reconnects.get_or_create(&self.label).inc();
            tracing::info!(%address, link = self.kind.as_str(), "redis is back, after it {lost}");
        }
        next
    }

    async fn dial_beside(&self, mut old: Connection, failure: Failure) -> Next {
        let new = tokio::select! {
            biased;
            heard = old.heard() => match heard {
                Ok(()) => return Next::Same(old),
                Err(lost) => {
                    self.health.note_down(self.kind, &lost);
                    self.dial(lost.failure()).await
                }
            },
            new = self.dial(failure) => new,
        };
        Next::New(new)
    }

    /// Dials until it succeeds, without waiting for one attempt to fail before the next: those that
    /// began while the way was cut may take long to notice that it is free.
    async fn dial(&self, mut failure: Failure) -> Connection {
        let mut backoff = Backoff::default();
        let mut dials = JoinSet::new();
        let mut next = Instant::now() + backoff.next_wait(failure);
        loop {
            tokio::select! {
                Some(dialled) = dials.join_next() => match dialled {
                    Ok(Ok(connection)) => return connection,
                    Ok(Err(error)) => {
                        self.note_failed(&error);
                        failure = error.failure();
                    }
                    // A panic is told by its own message.
                    Err(_) => {}
                },
                () = self.time_to_dial(next), if dials.len() < DIALS_MAX => {
                    dials.spawn(self.attempt());
                    next = Instant::now() + backoff.next_wait(failure);
                }
            }
        }
    }

    /// One dial, to where the other nodes are.
    fn attempt(&self) -> impl Future<Output = Result<Connection, LinkError>> + use<> {
        let (dialer, company) = (Arc::clone(&self.dialer), self.company.clone());
        let health = Arc::clone(&self.health);
        async move {
            let mut connection = dialer.dial().await?;
            if let Some(company) = company {
                let wait = dialer.connect_timeout();
                let meets = company.meet(&mut connection, health.reign());
                timeout(wait, meets).await.unwrap_or(Err(LinkError::Timeout(wait)))?;
            }
            Ok(connection)
        }
    }

    /// Cancel-safe.
    async fn time_to_dial(&self, next: Instant) {
        sleep_until(next).await;
        self.dialer.place().needed().await;
    }

    fn note_failed(&self, error: &LinkError) {
        let address = self.health.address();
        tracing::debug!(%address, link = self.kind.as_str(), "redis {error}");
        self.health.note_down(self.kind, error);
    }

    /// The server says that what it was asked for is elsewhere: where its place is known from is
    /// asked anew.
    pub(crate) fn doubt(&self) {
        self.dialer.place().doubt();
    }

    /// Notes how long the last ping took.
    pub(crate) fn note_round_trip(&self, connection: &Connection) {
        self.round_trip_seconds.set(connection.round_trip().as_secs_f64());
    }

    /// Waits until the primary is at another place, or another server at this one. Cancel-safe.
    pub(crate) async fn elsewhere(&self, server: Server, endpoint: Option<&Endpoint>) -> LinkError {
        tokio::select! {
            () = self.health.elsewhere(server) => {}
            () = self.dialer.place().left(endpoint) => {}
        }
        LinkError::Elsewhere
    }
}

/// Attempts side by side: each may take as long as the time-out.
const DIALS_MAX: usize = 8;
