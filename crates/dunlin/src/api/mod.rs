//! The HTTP API, for the application that the clients belong to: `POST /api/{method}`.

pub mod fields;
pub mod request;

mod body;
mod channel;
mod failure;
mod key;
mod orders;
mod publish;
mod reply;
mod respond;
mod survey;

use std::{sync::Arc, time::Duration};

use dunlin_core::{error::ClientError, metrics::Metrics, node::Node};

use self::{failure::Failure, reply::Reply, request::Call};
pub(crate) use self::{key::Keys, respond::routes};
use crate::{config::ErrorMode, control::Control, front::crowd::Crowd, metering::Paces};

/// What the methods share.
pub(crate) struct Api {
    pub(crate) node: Arc<Node>,
    pub(crate) control: Arc<Control>,
    pub(crate) metrics: Metrics,
    pub(crate) keys: Keys,
    /// How much is published in channels that have a bound.
    pub(crate) paces: Arc<Paces>,
    /// Who called with how many bad ones.
    pub(crate) crowd: Arc<Crowd>,
    /// How errors are answered; none = in a body with status 200.
    pub(crate) error_mode: Option<ErrorMode>,
    /// Largest body of a request.
    pub(crate) body_bytes: usize,
    /// Longest time from a request's head to the end of its body.
    pub(crate) body_age: Duration,
}

impl Api {
    /// Does what one call asks for.
    async fn run(&self, call: Call) -> Reply {
        match call {
            Call::Publish(fields) => self.publish(fields).await,
            Call::Broadcast(fields) => self.broadcast(fields).await,
            Call::Presence(fields) => self.presence(fields).await,
            Call::PresenceStats(fields) => self.presence_stats(fields).await,
            Call::History(fields) => self.history(fields).await,
            Call::HistoryRemove(fields) => self.history_remove(fields).await,
            Call::Rpc(fields) => Err(rpc(&fields)),
            Call::Subscribe(fields) => self.subscribe(fields).await,
            Call::Unsubscribe(fields) => self.unsubscribe(fields).await,
            Call::Disconnect(fields) => self.disconnect(fields).await,
            Call::Refresh(fields) => self.refresh(fields).await,
            Call::RevokeToken(fields) => self.revoke_token(fields).await,
            Call::InvalidateUserTokens(fields) => self.invalidate_user_tokens(fields).await,
            Call::Channels(fields) => self.channels(fields).await,
            Call::Connections(fields) => self.connections(fields).await,
            Call::Info => self.info().await,
            Call::Top(fields) => self.top(fields).await,
            Call::Unknown => Err(ClientError::MethodNotFound.into()),
        }
    }
}

/// There are no extensions, so there are no methods of theirs.
fn rpc(fields: &fields::Rpc) -> Failure {
    match fields.method.as_deref() {
        None | Some("") => Failure::of_field("method", "it is missing"),
        Some(_) => Failure::new(ClientError::NotAvailable, "this server has no extensions"),
    }
}
