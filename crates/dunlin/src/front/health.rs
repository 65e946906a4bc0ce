//! Pages for machines: alive, ready, metrics.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use dunlin_core::{broker::Outage, metrics};
use serde_json::json;

use super::Front;
use crate::memory::Level;

/// `GET /health`: 200 while the process lives. Says which node this is.
pub(super) async fn health(State(front): State<Arc<Front>>) -> Response {
    let body = json!({
        "status": "ok",
        "node": front.node_name,
        "version": env!("CARGO_PKG_VERSION"),
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// `GET /ready`: 200 when new clients are welcome, 503 while leaving, before the node is settled,
/// while memory is short or without broker, and then what is wrong with which part of it.
pub(super) async fn ready(State(front): State<Arc<Front>>) -> Response {
    let (outages, unsettled) = (front.node.outages(), front.control.unsettled());
    let (status, word) = if front.is_draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "leaving")
    } else if !outages.is_empty() {
        (StatusCode::SERVICE_UNAVAILABLE, "broker_lost")
    } else if let Some(unsettled) = &unsettled {
        (StatusCode::SERVICE_UNAVAILABLE, unsettled.word())
    } else if front.memory.is(Level::Tight) {
        (StatusCode::SERVICE_UNAVAILABLE, "memory_short")
    } else {
        (StatusCode::OK, "ready")
    };
    let mut body = json!({ "status": word, "node": front.node_name });
    if word == "broker_lost" {
        let outage = |it: &Outage| json!({ "broker": &*it.part, "reason": &*it.reason });
        body["outages"] = outages.iter().map(outage).collect();
    } else if let Some(unsettled) = unsettled {
        body["reason"] = unsettled.to_string().into();
    }
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// `GET /metrics`: everything countable, for Prometheus.
pub(super) async fn metrics(State(front): State<Arc<Front>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::page(&front.registry)).into_response()
}
