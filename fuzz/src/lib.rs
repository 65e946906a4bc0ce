//! The logic of every fuzz target as a plain function, so that stable Rust can replay a corpus.
//!
//! A function takes any bytes and panics if a promise is broken.

mod api;
mod auth;
mod centrifuge;
mod config;
mod filter;
mod proxy;
mod redis;
mod session;
mod ws;

pub use api::{api_body, control_message};
pub use auth::token;
pub use centrifuge::{centrifuge_json, centrifuge_protobuf};
pub use config::config;
pub use filter::filter;
pub use proxy::proxy_header;
pub use redis::{envelope, resp_decode};
pub use session::session;
pub use ws::{ws_decode, ws_differential, ws_handshake};

/// A fuzz target.
pub struct Target {
    /// The name of its program in `fuzz_targets/` and of its folder in `corpus/`.
    pub name: &'static str,
    /// What it does with one input.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "api_body", run: api_body },
    Target { name: "centrifuge_json", run: centrifuge_json },
    Target { name: "centrifuge_protobuf", run: centrifuge_protobuf },
    Target { name: "config", run: config },
    Target { name: "control_message", run: control_message },
    Target { name: "envelope", run: envelope },
    Target { name: "filter", run: filter },
    Target { name: "proxy_header", run: proxy_header },
    Target { name: "resp_decode", run: resp_decode },
    Target { name: "session", run: session },
    Target { name: "token", run: token },
    Target { name: "ws_decode", run: ws_decode },
    Target { name: "ws_differential", run: ws_differential },
    Target { name: "ws_handshake", run: ws_handshake },
];
