//! From HTTP to calls and back: routes, keys, bodies, and the two ways to tell an error.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use dunlin_core::{error::ClientError, limits::Scope, metrics::ApiLabel};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    Api,
    body::{Body, Unread},
    failure::Failure,
    reply::{Named, Reply, Wrapped},
    request::{Call, Request as Asked, Undecodable},
};
use crate::{
    config::ErrorMode,
    front::{peer::ClientAddress, retry_after, serve::Known},
};

/// Calls of one batch that are under way at once.
const IN_FLIGHT_MAX: usize = 1024;

/// `/api` and what is below it.
pub(crate) fn routes(api: Arc<Api>) -> Router {
    let (legacy, method) = (post(legacy).fallback(no_post), post(method).fallback(no_post));
    Router::new()
        .route("/api", legacy.clone())
        .route("/api/", legacy)
        .route("/api/{method}", method.clone())
        .route("/api/{method}/", method)
        .layer(DefaultBodyLimit::max(api.body_bytes))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&api), admit))
        .with_state(api)
        .route("/api/openapi.json", get(document))
}

/// What [`routes`] take and answer, for people and generators of clients. No secret.
const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

/// `GET /api/openapi.json`
async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

/// Lets a request pass if it brings a key, before its body is read.
async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let address = ClientAddress::of(&request);
    if address.is_some_and(|address| !api.crowd.may_try_key(address)) {
        api.metrics.count_limited("bad_keys", Scope::Address);
        return too_many_bad_keys(&api);
    }
    if api.keys.admit(request.headers(), request.uri()) {
        if let Some(known) = request.extensions().get::<Known>() {
            known.note();
        }
        return next.run(request).await;
    }
    if let Some(address) = address {
        api.crowd.note_bad_key(address);
    }
    api.refuse(Refusal {
        status: StatusCode::UNAUTHORIZED,
        why: "no good key; show one of http_api.key as the header X-API-Key".to_owned(),
    })
}

/// No key is looked at: the next ones may be as bad.
fn too_many_bad_keys(api: &Api) -> Response {
    let why = "too many requests without a good key came from your address".to_owned();
    let mut response = api.refuse(Refusal { status: StatusCode::TOO_MANY_REQUESTS, why });
    response.headers_mut().insert(header::RETRY_AFTER, retry_after());
    response
}

/// `POST /api/{method}`: one call, or a batch of them.
async fn method(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // A name that is rejected is not even UTF-8.
    let method = name.map(|Path(name)| name).unwrap_or_default();
    let answer = api.answer(Some(&method), &headers, body).await;
    answer.unwrap_or_else(|refusal| api.refuse(refusal))
}

/// `POST /api`: calls in the old form.
async fn legacy(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Response {
    let answer = api.answer(None, &headers, body).await;
    answer.unwrap_or_else(|refusal| api.refuse(refusal))
}

/// Anything but POST.
async fn no_post(State(api): State<Arc<Api>>) -> Response {
    let why = "the API takes POST only, with a body in JSON".to_owned();
    api.refuse(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, why })
}

/// Why a request is no call, in words for whoever sent it.
struct Refusal {
    status: StatusCode,
    why: String,
}

impl From<Undecodable> for Refusal {
    fn from(error: Undecodable) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why: error.to_string() }
    }
}

impl Api {
    /// The answer, or why there is none.
    async fn answer(
        self: &Arc<Self>,
        method: Option<&str>,
        headers: &HeaderMap,
        Body(body): Body,
    ) -> Result<Response, Refusal> {
        let body = body.map_err(|unread| self.unread(&unread))?;
        Ok(match Asked::parse(method, &body)? {
            Asked::One(call) if matches!(*call, Call::Unknown) => {
                let why = "no such method; GET /api/openapi.json names all".to_owned();
                return Err(Refusal { status: StatusCode::NOT_FOUND, why });
            }
            Asked::One(call) => {
                let reply = Box::pin(self.call(*call)).await;
                one(reply, error_mode(headers).or(self.error_mode))
            }
            Asked::Batch { calls, is_parallel } => {
                let replies = self.call_all(calls, is_parallel).await;
                Json(Replies { replies }).into_response()
            }
            Asked::Legacy(calls) => lines(self.call_all(calls, false).await),
        })
    }

    /// One call, counted.
    async fn call(&self, call: Call) -> Reply {
        let method = call.method();
        let reply = self.run(call).await.map_err(|failure| self.explained(failure));
        match &reply {
            Ok(_) => tracing::debug!(method, "did what the application asked for"),
            Err(failure) => {
                let (code, why) = (failure.code(), failure.message());
                tracing::debug!(method, code, why, "did not do what the application asked for");
            }
        }
        self.count(method, reply.as_ref().err().map_or(0, Failure::code));
        reply
    }

    /// A failure in as many words as there are for it.
    pub(super) fn explained(&self, failure: Failure) -> Failure {
        failure.explained(|| self.node.outages())
    }

    /// All calls, one after the other or side by side; the replies are in the order of the calls.
    async fn call_all(self: &Arc<Self>, calls: Vec<Call>, is_parallel: bool) -> Vec<Named> {
        let side_by_side = if is_parallel { IN_FLIGHT_MAX } else { 1 };
        let mut replies = Vec::with_capacity(calls.len());
        let mut calls = calls.into_iter().enumerate();
        let mut under_way = JoinSet::new();
        loop {
            for (place, call) in calls.by_ref().take(side_by_side - under_way.len()) {
                let (api, method) = (Arc::clone(self), call.method());
                under_way.spawn(async move { (place, Named(method, api.call(call).await)) });
            }
            match under_way.join_next().await {
                Some(Ok(reply)) => replies.push(reply),
                // A panic is a bug of ours; its caller gets no answer at all.
                Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
                None => break,
            }
        }
        replies.sort_by_key(|(place, _)| *place);
        replies.into_iter().map(|(_, reply)| reply).collect()
    }

    /// A body that did not come, or not in time, or is too large.
    fn unread(&self, unread: &Unread) -> Refusal {
        let status = match unread {
            Unread::Rejected(rejection) => rejection.status(),
            Unread::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Unread::TooSlow => StatusCode::REQUEST_TIMEOUT,
        };
        let why = match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                format!(
                    "the body has more than the {} bytes of http_api.body_bytes",
                    self.body_bytes
                )
            }
            StatusCode::REQUEST_TIMEOUT => {
                format!("the body took longer than limits.handshake_age, {:?}", self.body_age)
            }
            _ => "the body did not arrive whole".to_owned(),
        };
        Refusal { status, why }
    }

    /// Answers what is no call. The fault is the caller's, who is told; the log is for who looks.
    fn refuse(&self, Refusal { status, why }: Refusal) -> Response {
        let code = status.as_u16();
        self.count("", code.into());
        // What is wrong with a body is said in its own words, which are not for the log.
        let told = if status == StatusCode::BAD_REQUEST { "its body is no call" } else { &why };
        tracing::debug!(code, why = told, "refused a request to the API");
        let body = Json(json!({ "error": { "code": code, "message": why } }));
        match status {
            // What is left of its body is not waited for.
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => {
                (status, [(header::CONNECTION, "close")], body).into_response()
            }
            _ => (status, body).into_response(),
        }
    }

    fn count(&self, method: &'static str, code: u32) {
        self.metrics.api_calls.get_or_create(&ApiLabel { method, code }).inc();
    }
}

/// How the caller wants errors, if it says so.
fn error_mode(headers: &HeaderMap) -> Option<ErrorMode> {
    let mode = headers.get("x-centrifugo-error-mode")?;
    (mode == "transport").then_some(ErrorMode::Transport)
}

/// The answer to one call.
fn one(reply: Reply, mode: Option<ErrorMode>) -> Response {
    match (reply, mode) {
        (Err(failure), Some(ErrorMode::Transport)) => {
            (status(failure.error()), Json(failure)).into_response()
        }
        (reply, _) => Json(Wrapped(reply)).into_response(),
    }
}

/// The answer to a batch.
#[derive(Serialize)]
struct Replies {
    replies: Vec<Named>,
}

/// The answer to calls in the old form: a line for each.
fn lines(replies: Vec<Named>) -> Response {
    let lines = replies.into_iter().map(|Named(_, reply)| {
        serde_json::to_string(&Wrapped(reply)).expect("replies are JSON and their keys texts")
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    ([(header::CONTENT_TYPE, "application/json")], lines).into_response()
}

/// The status that tells an error.
fn status(error: ClientError) -> StatusCode {
    match error {
        ClientError::UnknownChannel | ClientError::MethodNotFound => StatusCode::NOT_FOUND,
        ClientError::BadRequest | ClientError::NotAvailable => StatusCode::BAD_REQUEST,
        ClientError::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
        ClientError::ConcurrentPagination => StatusCode::CONFLICT,
        ClientError::LimitExceeded | ClientError::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
