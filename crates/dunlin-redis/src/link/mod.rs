//! A link to a Redis server: its wire format, how it is made, kept alive and made again. What is
//! said over it is the business of `subscribe` and `publish`.

pub mod value;

pub mod resp;

pub mod command;

pub(crate) mod connection;

pub(crate) mod dial;

mod tls;

pub(crate) mod complaints;

pub(crate) mod greeting;

pub(crate) mod place;

pub(crate) mod inquiry;

pub(crate) mod reconnect;

pub(crate) mod error;

use std::future::pending;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Waits until whoever holds the other end says stop, or is gone. Cancel-safe.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Only that it happened matters, not the guard that this returns.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for a moment; for ever if there is none. Cancel-safe.
pub(crate) async fn reach(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
