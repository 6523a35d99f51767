//! Answers that are made while they are sent keep their seats until they are sent.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::Admitted;
use crate::{BoxError, ResponseBody};

/// Answers up to this size, in bytes, are handed over at once.
const SMALL: u64 = 64 * 1024;
/// How long an answer keeps its seats at most: the time that requests have. A client that takes longer costs memory,
/// and nobody's turn.
const LONGEST: Duration = Duration::from_secs(60);

/// A body whose end is waited for.
struct Held {
    body: ResponseBody,
    _end: oneshot::Sender<()>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer, with its seats given back once it is sent.
pub(crate) fn hold(response: Response<ResponseBody>, admitted: Option<Admitted>) -> Response<ResponseBody> {
    let Some(admitted) = admitted else { return response };
    if response.body().size_hint().upper().is_some_and(|length| length <= SMALL) {
        return response;
    }
    let (end, ended) = oneshot::channel();
    tokio::spawn(async move {
        // Either way the seats go back.
        let _ = tokio::time::timeout(LONGEST, ended).await;
        drop(admitted);
    });
    response.map(|body| Held { body, _end: end }.boxed_unsync())
}
