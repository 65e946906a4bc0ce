//! The front: everything that happens before a connection is on its shard. Accepts, speaks TLS and
//! HTTP/1.1, answers the pages, and hands upgraded streams over.

pub(crate) mod accept;
pub(crate) mod crowd;
pub(crate) mod demo;
pub(crate) mod door;
mod health;
pub(crate) mod listen;
pub mod origin;
pub mod peer;
mod preface;
pub(crate) mod serve;
mod source;
pub(crate) mod tls;
mod upgrade;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use dunlin_core::{
    channel::{ChannelName, InvalidPlainName},
    metrics::{Metrics, RefusalLabel},
    node::Node,
};
use prometheus_client::registry::Registry;

use self::{crowd::Crowd, origin::Pages};
use crate::{
    api::{self, Api},
    config::{PlainConfig, PlainSubprotocols},
    control::Control,
    memory::Memory,
    shard::{Places, ShardHandle},
};

/// What is decided about the plain dialect.
pub(crate) struct Plain {
    default_channel: ChannelName,
    subprotocols: PlainSubprotocols,
}

impl Plain {
    /// As the operator wrote it.
    ///
    /// # Errors
    /// When the channel's name cannot be; it was checked.
    pub(crate) fn new(config: &PlainConfig) -> Result<Self, InvalidPlainName> {
        let default_channel = ChannelName::plain(&config.default_channel)?;
        Ok(Self { default_channel, subprotocols: config.subprotocols })
    }
}

/// What the routes share.
pub(crate) struct Front {
    pub(crate) node_name: String,
    pub(crate) node: Arc<Node>,
    pub(crate) control: Arc<Control>,
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Registry,
    pub(crate) plain: Plain,
    pub(crate) compression: bool,
    /// Which pages may connect.
    pub(crate) pages: Pages,
    /// Whether the pages are there that show the node.
    pub(crate) has_demo: bool,
    /// What an address may have.
    pub(crate) crowd: Arc<Crowd>,
    /// How full the node's memory is.
    pub(crate) memory: Arc<Memory>,
    /// Most connections at once, seats that wait for their socket included.
    pub(crate) places: Places,
    pub(crate) next_shard: AtomicUsize,
    /// Set at SIGTERM: not ready any more, although connections are still taken.
    pub(crate) is_draining: AtomicBool,
}

impl Front {
    /// The shard whose turn it is to take a connection.
    fn next_shard(&self) -> &ShardHandle {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
        &self.shards[turn % self.shards.len()]
    }

    /// Counts a refused upgrade. `reason` is one of a closed set: a constant.
    fn count_refusal(&self, reason: &'static str) {
        self.metrics.upgrades_refused.get_or_create(&RefusalLabel { reason }).inc();
    }
}

/// The routes for clients.
pub(crate) fn public(front: Arc<Front>) -> Router {
    let pages = if front.has_demo { demo::routes() } else { Router::new() };
    pages
        .route("/ws", any(upgrade::default_channel))
        .route("/ws/", any(upgrade::no_channel))
        .route("/ws/{*channel}", any(upgrade::channel))
        .route("/connection/websocket", any(upgrade::centrifuge))
        .with_state(front)
}

/// The routes for those who run the node, and for the application.
pub(crate) fn internal(front: Arc<Front>, api: Arc<Api>) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .with_state(front)
        .merge(api::routes(api))
}

/// Seconds after which to come back, such that those who are refused together do not come together.
pub(crate) fn retry_after() -> HeaderValue {
    HeaderValue::from(fastrand::u16(1..=10))
}

/// An error as every route answers it: a status and a JSON object that says what and why.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    // Nothing is to be expected of its sender that would be worth a place at the door.
    let headers = [(header::CONNECTION, "close")];
    (status, headers, axum::Json(error_body(code, message))).into_response()
}

fn error_body(code: &str, message: &str) -> serde_json::Value {
    serde_json::json!({ "error": { "code": code, "message": message } })
}
