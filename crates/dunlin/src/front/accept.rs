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
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
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

/// Connections that the kernel completes before we accept them: a storm waits there.
const LISTEN_BACKLOG: i32 = 4096;

/// Headers of one request.
const HEADERS_MAX: usize = 100;

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

/// Listens on `address`.
///
/// # Errors
/// When the address is in use, or not ours to listen on.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Acceptor {
    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("cannot ask for the listen address")
    }

    /// Accepts for ever. Drop the future to stop; what it accepted goes on. Cancel-safe.
    pub(crate) async fn run(self) {
        let handshakes = Arc::new(Semaphore::new(self.handshakes_max));
        let http = self.http();
        let mut pause = PAUSE;
        loop {
            let permit = Arc::clone(&handshakes).acquire_owned().await;
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
            .header_read_timeout(self.handshake_age)
            .max_headers(HEADERS_MAX)
            .max_buf_size(self.header_bytes.max(8192));
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
    let service = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
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
