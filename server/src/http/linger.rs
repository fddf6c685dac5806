//! Lets a client finish sending before it is told no.
//!
//! Over HTTP/1 an answer that comes before the whole body was read is followed by a reset: the client still
//! writes, and learns of a broken connection instead of the answer. An API server would then log an I/O error
//! for a batch that was too large, and would not see `Retry-After`. So what is left of the body of a refused
//! request is read and thrown away first, within bounds. HTTP/2 needs none of this: it resets one stream, after
//! the answer and without an error.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tower::ServiceExt;

/// How much of a refused body is read, in bytes; a client that sends more gets a reset.
const MAX_DISCARDED_BYTES: usize = 256 << 20;
/// How long that may take.
const LINGER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a request, and reads the rest of its body if the answer is an error.
pub(super) async fn answer(router: Router, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (give_back, left) = oneshot::channel();
    let waits = head.headers.contains_key(header::EXPECT);
    let lent = Lent { body: Some(body), waits, give_back: Some(give_back) };
    let response = match router.oneshot(Request::from_parts(head, Body::new(lent))).await {
        Ok(response) => response,
        Err(impossible) => match impossible {},
    };
    let refused = response.status().is_client_error() || response.status().is_server_error();
    if refused && let Ok(body) = left.await {
        // Slower or longer than this is a client that a reset serves right.
        let _ = tokio::time::timeout(LINGER_TIMEOUT, discard(body)).await;
    }
    response
}

async fn discard(mut body: Body) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = body.frame().await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if discarded > MAX_DISCARDED_BYTES {
            return;
        }
    }
}

/// A body that is given back when its reader stops before the end.
struct Lent {
    body: Option<Body>,
    /// The client sends nothing before "100 Continue", which the first read asks it to.
    waits: bool,
    give_back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits = false;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(give_back), false) = (self.body.take(), self.give_back.take(), self.waits) {
            let _ = give_back.send(body);
        }
    }
}
