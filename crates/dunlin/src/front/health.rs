//! Pages for machines: alive, ready, metrics.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use dunlin_core::{broker::BrokerStatus, metrics};
use serde_json::json;

use super::Front;

/// `GET /health`: 200 while the process lives. Says which node this is.
pub(super) async fn health(State(front): State<Arc<Front>>) -> Response {
    let body = json!({
        "status": "ok",
        "node": front.node_name,
        "version": env!("CARGO_PKG_VERSION"),
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// `GET /ready`: 200 when new clients are welcome, 503 while leaving or without broker.
pub(super) async fn ready(State(front): State<Arc<Front>>) -> Response {
    let (status, word) = if front.is_draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "leaving")
    } else if front.node.broker_status() == BrokerStatus::Lost {
        (StatusCode::SERVICE_UNAVAILABLE, "broker_lost")
    } else {
        (StatusCode::OK, "ready")
    };
    let body = Json(json!({ "status": word, "node": front.node_name }));
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// `GET /metrics`: everything countable, for Prometheus.
pub(super) async fn metrics(State(front): State<Arc<Front>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::page(&front.registry)).into_response()
}
