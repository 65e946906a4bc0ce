//! A link to a Redis server: its wire format, how it is made, kept alive and made again. What is
//! said over it is the business of `subscribe` and `publish`.

pub mod value;

pub mod resp;

pub mod command;

pub(crate) mod connection;

pub(crate) mod dial;

pub(crate) mod reconnect;

pub(crate) mod error;

use tokio::sync::watch;

/// Waits until whoever holds the other end says stop, or is gone. Cancel-safe.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Only that it happened matters, not the guard that this returns.
    let _ = stop.wait_for(|stop| *stop).await;
}
