//! The body of a request, which has to come in a bounded time.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
};
use hyper::body::Body as _;
use tokio::time::timeout;

use super::Api;

/// A body that came, or why it did not.
pub(super) struct Body(pub(super) Result<Bytes, Unread>);

/// Why there is no body.
pub(super) enum Unread {
    /// It says itself that it is too large.
    TooLarge,
    /// It is too large, or its sender has gone.
    Rejected(BytesRejection),
    /// It took longer than [`Api::body_age`].
    TooSlow,
}

impl FromRequest<Arc<Api>> for Body {
    type Rejection = Infallible;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Infallible> {
        // Nobody waits for what is not taken.
        if request.body().size_hint().lower() > api.body_bytes as u64 {
            return Ok(Self(Err(Unread::TooLarge)));
        }
        let read = timeout(api.body_age, Bytes::from_request(request, api)).await;
        let body = read.map_err(|_| Unread::TooSlow);
        Ok(Self(body.and_then(|body| body.map_err(Unread::Rejected))))
    }
}
