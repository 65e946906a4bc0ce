//! A request and its answer, as far as the door wants to know: when the one is whole, and when all
//! of the other is handed over.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::{
    Request, Response, StatusCode,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
};

use super::Pass;

/// Tells the door once the request is whole: at once, unless it has a body.
pub(crate) fn request(request: Request<Incoming>, pass: &Pass) -> Request<Body> {
    if request.body().is_end_stream() {
        pass.asked();
        return request.map(|_nothing| Body::empty());
    }
    request.map(|body| Body::new(Question { body, pass: pass.clone() }))
}

/// Tells the door once the answer is handed over. After a 101 there is nothing more to tell.
pub(crate) fn answer(response: Response<Body>, pass: &Pass) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    response.map(|body| Body::new(Answer { body, pass: pass.clone() }))
}

/// The body of a request.
struct Question {
    body: Incoming,
    pass: Pass,
}

impl HttpBody for Question {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.pass.asked();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. Hyper drops it when it needs no more of it.
struct Answer {
    body: Body,
    pass: Pass,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.pass.answered();
    }
}
