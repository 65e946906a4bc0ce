//! Accepting: sockets become HTTP connections, as many at once as there are places at the door.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use axum::Router;
use dunlin_core::metrics::RefusalLabel;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use prometheus_client::metrics::{counter::Counter, family::Family};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use super::{
    door::{Door, Pass, Watched},
    peer::{AddressLists, Proxies},
    preface,
    serve::{Serving, serve_http},
};
use crate::stream;

/// What the accept loop needs.
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// Present when the node speaks TLS itself.
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) errors: Counter,
    /// Who is believed about where clients are.
    pub(crate) proxies: Arc<Proxies>,
    /// Who may come in.
    pub(crate) lists: Arc<AddressLists>,
    /// Connections that are refused for how they begin, or for whom they come from.
    pub(crate) refused: Family<RefusalLabel, Counter>,
    /// Sockets without their 101.
    pub(crate) door: Arc<Door>,
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

/// Pauses after failed accepts: the first, and what doubling leads to.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

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
        tokio::select! {
            () = self.accept() => {}
            // Nobody holds the other end any more: nobody tells it to stop either.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        // What comes now waits in the socket, if it was handed over, or is refused.
        let door = Arc::clone(&self.door);
        drop(self);
        let _ = timeout(HANDSHAKES_WAIT, door.emptied()).await;
    }

    /// Accepts for ever. What it accepted goes on. Cancel-safe.
    async fn accept(&self) {
        let http = self.http();
        let mut pause = PAUSE;
        loop {
            self.door.room().await;
            match self.listener.accept().await {
                Ok((tcp, peer)) => {
                    pause = PAUSE;
                    self.serve(tcp, peer.ip().to_canonical(), &http);
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

    fn serve(&self, tcp: TcpStream, near: IpAddr, http: &http1::Builder) {
        // The sockets of a proxy are anybody's.
        let mut visitor = self.door.enter((!self.proxies.trust(near)).then_some(near));
        if stream::prepare(&tcp).is_err() {
            return;
        }
        let tls = self.tls.clone();
        let serving = Serving {
            http: http.clone(),
            router: self.router.clone(),
            proxies: Arc::clone(&self.proxies),
            lists: Arc::clone(&self.lists),
            refused: self.refused.clone(),
            deadline: Instant::now() + self.handshake_age,
        };
        tokio::spawn(async move {
            let pass = visitor.pass().clone();
            let stream = Watched::new(tcp, pass.clone());
            tokio::select! {
                () = welcome(stream, near, tls, serving, &pass) => {}
                // Others need the place.
                () = visitor.sent_away() => {}
            }
        });
    }
}

/// Serves a connection from its first byte on. Who fails or dawdles before there is a request gets
/// nothing more from us.
async fn welcome(
    mut stream: Watched,
    near: IpAddr,
    tls: Option<TlsAcceptor>,
    mut serving: Serving,
    pass: &Pass,
) {
    let deadline = serving.deadline;
    let beginning = preface::read(&mut stream, near, &serving.proxies, tls.is_some());
    let client = match timeout_at(deadline, beginning).await {
        Ok(Ok(Ok(caller))) => {
            if caller.is_unnamed {
                serving.proxies = Arc::new(Proxies::none());
            }
            caller.address
        }
        Ok(Ok(Err(unfit))) => {
            let reason = unfit.code();
            serving.refused.get_or_create(&RefusalLabel { reason }).inc();
            if unfit.concerns_a_proxy() && !WARNED.swap(true, Ordering::Relaxed) {
                tracing::warn!(%near, reason, "refused a connection: {}", unfit.message());
            } else {
                tracing::debug!(%near, reason, "refused a connection: {}", unfit.message());
            }
            return unfit.tell(&mut stream).await;
        }
        Ok(Err(_)) | Err(_) => return,
    };
    if client != near && !serving.proxies.trust(client) {
        pass.comes_from(client);
    }
    let Some(tls) = tls else { return serve_http(stream, serving, client, pass).await };
    if let Ok(Ok(stream)) = timeout_at(deadline, tls.accept(stream)).await {
        serve_http(stream, serving, client, pass).await;
    }
}

/// Whether an operator has heard of a proxy that speaks another way than is expected: once is
/// enough, as strangers can do it, too.
static WARNED: AtomicBool = AtomicBool::new(false);

/// Whether the connection was gone before we accepted it: nothing is wrong with us.
fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
