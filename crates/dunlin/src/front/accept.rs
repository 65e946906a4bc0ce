//! Accepting: sockets become HTTP connections, as many at once as `limits.handshakes` allows.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use axum::Router;
use dunlin_core::limits::SUBSCRIBE_WAIT;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use crate::stream;

/// What the accept loop needs.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// Present when the node speaks TLS itself.
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) errors: Counter,
    /// Most sockets without their 101.
    pub(crate) handshakes_max: usize,
    /// Longest TLS handshake, and longest wait for a request's head.
    pub(crate) handshake_age: Duration,
    /// Longest request head in bytes.
    pub(crate) header_bytes: usize,
}

/// How long a caller's connection may be quiet between two requests. Balancers keep theirs for 60 s
/// and use them again: whoever closes sooner meets a request on its way.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Headers of one request.
const HEADERS_MAX: usize = 100;

/// How long a node that leaves waits for those who are on their way to their 101.
const HANDSHAKES_WAIT: Duration = Duration::from_secs(1);

/// How long the answer to a request that came in time may take.
const LAST_ANSWER: Duration = SUBSCRIBE_WAIT;

/// Pauses after failed accepts: the first, and what doubling leads to.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Whether one of the requests of an HTTP connection has shown who sends them. Such a connection is
/// no stranger's: it may go on for as long as it is used.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<AtomicBool>);

impl Known {
    /// A request brought a secret of the operator's.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A running accept loop, which takes some connections up to their 101.
pub(crate) struct Accepting {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Accepting {
    /// Waits until the loop has died, which is a bug of ours. Cancel-safe.
    pub(crate) async fn died(&mut self) {
        // However it ended, it ended.
        let _ = (&mut self.task).await;
    }

    /// Accepts no more, and gives those who came before a moment to get their 101.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        // It ends by itself.
        let _ = self.task.await;
    }
}

impl Acceptor {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("cannot ask for the listen address")
    }

    /// Accepts, in a task of its own, until it is told to stop.
    pub(crate) fn start(self) -> Accepting {
        let (stop, stopped) = watch::channel(false);
        Accepting { task: tokio::spawn(self.run(stopped)), stop }
    }

    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let handshakes = Arc::new(Semaphore::new(self.handshakes_max));
        tokio::select! {
            () = self.accept(&handshakes) => {}
            // Nobody holds the other end any more: nobody tells it to stop either.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        // What comes now waits in the socket, if it was handed over, or is refused.
        let places = u32::try_from(self.handshakes_max).unwrap_or(u32::MAX);
        drop(self);
        let _ = timeout(HANDSHAKES_WAIT, handshakes.acquire_many(places)).await;
    }

    /// Accepts for ever. What it accepted goes on. Cancel-safe.
    async fn accept(&self, handshakes: &Arc<Semaphore>) {
        let http = self.http();
        let mut pause = PAUSE;
        loop {
            let permit = Arc::clone(handshakes).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            match self.listener.accept().await {
                Ok((tcp, _peer)) => {
                    pause = PAUSE;
                    self.serve(tcp, &http, permit);
                }
                Err(error) if is_clients_fault(&error) => {}
                Err(error) => {
                    // Most likely EMFILE: the socket stays in the kernel's queue and accept would
                    // fail again at once, so wait until something is closed.
                    self.errors.inc();
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            // Strangers have a deadline of their own.
            .header_read_timeout(self.handshake_age.max(KEEP_ALIVE))
            .max_headers(HEADERS_MAX)
            .max_buf_size(self.header_bytes);
        http
    }

    fn serve(&self, tcp: TcpStream, http: &http1::Builder, permit: OwnedSemaphorePermit) {
        if stream::prepare(&tcp).is_err() {
            return;
        }
        let (http, router) = (http.clone(), self.router.clone());
        let deadline = Instant::now() + self.handshake_age;
        let Some(tls) = self.tls.clone() else {
            tokio::spawn(serve_http(tcp, http, router, deadline, permit));
            return;
        };
        tokio::spawn(async move {
            // Who fails the handshake or dawdles gets nothing more from us.
            if let Ok(Ok(stream)) = timeout_at(deadline, tls.accept(tcp)).await {
                serve_http(stream, http, router, deadline, permit).await;
            }
        });
    }
}

/// Answers requests until one is an upgrade. Strangers have until `deadline`: others wait for the
/// place.
async fn serve_http<S>(
    stream: S,
    http: http1::Builder,
    router: Router,
    deadline: Instant,
    permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let known = Known::default();
    let has_asked = AtomicBool::new(false);
    let service = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(known.clone());
        service.call(request)
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let served = match timeout_at(deadline, connection.as_mut()).await {
        Ok(served) => served,
        Err(_elapsed) if known.is_noted() => {
            drop(permit);
            connection.await
        }
        // Not even the first request came in time: there is nothing to answer.
        Err(_elapsed) if !has_asked.load(Ordering::Relaxed) => Ok(()),
        Err(_elapsed) => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
        }
    };
    // Bad requests were answered by hyper; broken sockets are everyday.
    if let Err(error) = served {
        tracing::trace!(%error, "an http connection broke off");
    }
}

/// Whether the connection was gone before we accepted it: nothing is wrong with us.
fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
