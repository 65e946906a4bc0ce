//! Serving HTTP to one socket, up to the request that is an upgrade.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use dunlin_core::limits::SUBSCRIBE_WAIT;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout, timeout_at},
};

use super::door::{self, Pass};

/// How long the answer to a request that came in time may take.
const LAST_ANSWER: Duration = SUBSCRIBE_WAIT;

/// Whether one of the requests of an HTTP connection has shown who sends them. Such a connection is
/// no stranger's: it needs no place, and may go on for as long as it is used.
#[derive(Clone)]
pub(crate) struct Known {
    is_noted: Arc<AtomicBool>,
    pass: Pass,
}

impl Known {
    fn nobody_yet(pass: Pass) -> Self {
        Self { is_noted: Arc::default(), pass }
    }

    /// A request brought a secret of the operator's.
    pub(crate) fn note(&self) {
        self.is_noted.store(true, Ordering::Relaxed);
        self.pass.leave();
    }

    fn is_noted(&self) -> bool {
        self.is_noted.load(Ordering::Relaxed)
    }
}

/// Answers requests until one is an upgrade. Strangers have until `deadline`: others wait for the
/// place.
pub(super) async fn serve_http<S>(
    stream: S,
    http: http1::Builder,
    router: Router,
    deadline: Instant,
    pass: &Pass,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let known = Known::nobody_yet(pass.clone());
    let has_asked = AtomicBool::new(false);
    let service = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(known.clone());
        let answer = service.call(door::request(request, pass));
        async { Ok::<_, std::convert::Infallible>(door::answer(answer.await?, pass)) }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let served = match timeout_at(deadline, connection.as_mut()).await {
        Ok(served) => served,
        Err(_elapsed) if known.is_noted() => connection.await,
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
