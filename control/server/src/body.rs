//! Request and response bodies: one boxed type each, whatever transport they come from.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// Any error of a transport or a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every response: bytes at once, concatenated shared parts, or a stream.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// The body of a request once it is inside the server.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body without content.
pub fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The answer, with a body of which each look for a piece is told: `true` when there was one. `saw` lives as long as the
/// body does.
pub(crate) fn watched<F>(response: Response<ResponseBody>, saw: F) -> Response<ResponseBody>
where
    F: FnMut(bool) + Send + Unpin + 'static,
{
    response.map(|body| Watched { body, saw }.boxed_unsync())
}

/// The answer, whose body keeps `value` until it is sent or given up.
pub(crate) fn holding<T>(response: Response<ResponseBody>, value: T) -> Response<ResponseBody>
where
    T: Send + Unpin + 'static,
{
    fn keep<T>(_: &T) {}
    watched(response, move |_| keep(&value))
}

/// A body that tells how it is taken.
struct Watched<F> {
    body: ResponseBody,
    saw: F,
}

impl<F: FnMut(bool) + Unpin> Body for Watched<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = Pin::new(&mut self.body).poll_frame(context);
        (self.saw)(matches!(next, Poll::Ready(Some(Ok(_)))));
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
