//! Serving HTTP to one socket, up to the request that is an upgrade.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, response::Response};
use dunlin_core::{limits::SUBSCRIBE_WAIT, metrics::RefusalLabel};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use prometheus_client::metrics::{counter::Counter, family::Family};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout, timeout_at},
};

use super::{
    door::{self, Pass},
    peer::{AddressLists, ClientAddress, Proxies},
    refuse,
};

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

/// How a connection is served.
pub(super) struct Serving {
    pub(super) http: http1::Builder,
    pub(super) router: Router,
    pub(super) proxies: Arc<Proxies>,
    pub(super) lists: Arc<AddressLists>,
    pub(super) refused: Family<RefusalLabel, Counter>,
    /// Until when strangers may stay: others wait for the place.
    pub(super) deadline: Instant,
}

/// Answers requests that come from `near` until one is an upgrade.
pub(super) async fn serve_http<S>(stream: S, serving: Serving, near: IpAddr, pass: &Pass)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving { http, router, proxies, lists, refused, deadline } = serving;
    let known = Known::nobody_yet(pass.clone());
    let has_asked = AtomicBool::new(false);
    let service = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let client = proxies.client(near, request.headers());
        request.extensions_mut().insert(known.clone());
        request.extensions_mut().insert(ClientAddress(client));
        let is_permitted = lists.permit(client);
        let answer = is_permitted.then(|| service.call(door::request(request, pass)));
        if !is_permitted {
            refused.get_or_create(&RefusalLabel { reason: "address_denied" }).inc();
        }
        async move {
            let answer = match answer {
                Some(answer) => answer.await?,
                None => denied(),
            };
            if answer.status().is_client_error() || answer.status().is_server_error() {
                tracing::debug!(%client, status = answer.status().as_u16(), "refused a request");
            }
            Ok::<_, Infallible>(door::answer(answer, pass))
        }
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
    match served {
        // Hyper has answered it, with 400, 414 or 431.
        Err(error) if error.is_parse() => {
            refused.get_or_create(&RefusalLabel { reason: "bad_http" }).inc();
            tracing::debug!(%near, %error, "refused what is no good HTTP");
        }
        // Broken sockets are everyday.
        Err(error) => tracing::trace!(%error, "an http connection broke off"),
        Ok(()) => {}
    }
}

/// The answer to whoever may not come in, and the last one.
fn denied() -> Response {
    let message = "your address may not come in here";
    refuse(StatusCode::FORBIDDEN, "address_denied", message)
}
