//! The body of a request, which has to come in a bounded time.

use std::{convert::Infallible, future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::header,
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

/// How long, and how many bytes, somebody may go on sending who is refused.
const DRAIN_AGE: Duration = Duration::from_secs(1);
const DRAIN_BYTES_MAX: usize = 64 << 20;

/// Reads a body and keeps nothing of it.
async fn drain(mut body: axum::body::Body) {
    let mut drained = 0;
    while let Some(Ok(frame)) = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
        drained += frame.data_ref().map_or(0, Bytes::len);
        if drained > DRAIN_BYTES_MAX {
            return;
        }
    }
}

impl FromRequest<Arc<Api>> for Body {
    type Rejection = Infallible;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Infallible> {
        // Nobody waits for what is not taken; what comes all the same would take the answer away.
        if request.body().size_hint().lower() > api.body_bytes as u64 {
            if !request.headers().contains_key(header::EXPECT) {
                let _ = timeout(DRAIN_AGE, drain(request.into_body())).await;
            }
            return Ok(Self(Err(Unread::TooLarge)));
        }
        let read = timeout(api.body_age, Bytes::from_request(request, api)).await;
        let body = read.map_err(|_| Unread::TooSlow);
        Ok(Self(body.and_then(|body| body.map_err(Unread::Rejected))))
    }
}
