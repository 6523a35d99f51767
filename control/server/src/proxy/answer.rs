//! An answer on its way back: redirects and the links of pages lead through this server.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::{StreamExt, stream};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};

use super::html;
use super::link::Links;
use crate::{BoxError, ResponseBody, full};

/// Largest page whose links are rewritten, in bytes; larger ones pass as they are.
const LARGEST_PAGE: usize = 8 << 20;
/// What another server allows to pages of others is not allowed under this one's name; upstream's list.
const CORS: [HeaderName; 4] = [
    http::header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    http::header::ACCESS_CONTROL_ALLOW_HEADERS,
    http::header::ACCESS_CONTROL_ALLOW_METHODS,
    http::header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// The answer with its links leading back.
pub(super) async fn led_back(
    response: Response<ResponseBody>,
    links: &Links,
    is_head: bool,
) -> Response<ResponseBody> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let (mut head, body) = response.into_parts();
    for name in CORS {
        head.headers.remove(name);
    }
    if let Some(to) = head.headers.get(LOCATION) {
        let new = to.to_str().ok().and_then(|to| links.led_back(to)).map(HeaderValue::try_from);
        if let Some(Ok(new)) = new {
            head.headers.insert(LOCATION, new);
        }
        return Response::from_parts(head, body);
    }
    if is_head || !is_page(&head) {
        return Response::from_parts(head, body);
    }
    page(head, body, links).await
}

fn is_page(head: &Parts) -> bool {
    let of =
        |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = of(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
    let length = of(CONTENT_LENGTH).parse::<usize>().unwrap_or_default();
    media == "text/html" && matches!(of(CONTENT_ENCODING), "" | "gzip") && length <= LARGEST_PAGE
}

async fn page(mut head: Parts, mut body: ResponseBody, links: &Links) -> Response<ResponseBody> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            // There is nothing in the trailers of a page.
            Ok(frame) => read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Err(error) => return Response::from_parts(head, broken(read, error)),
        }
        if read.len() > LARGEST_PAGE {
            tracing::debug!("a page is too large to look for links");
            return Response::from_parts(head, chained(read, body));
        }
    }
    let is_packed = head.headers.contains_key(CONTENT_ENCODING);
    let text = if is_packed { unpacked(&read) } else { Some(read.clone()) };
    let Some(text) = text else { return Response::from_parts(head, full(read)) };
    let text = html::rewrite(&text, |link| links.led_back(link).map(|link| escaped(&link)));
    head.headers.remove(CONTENT_ENCODING);
    head.headers.insert(CONTENT_LENGTH, text.len().into());
    Response::from_parts(head, full(text))
}

/// The prefix comes from the client's own request; in a page it must not become more than a link.
fn escaped(link: &str) -> String {
    link.replace('"', "&#34;").replace('\'', "&#39;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What gzip holds; `None` when it is broken or too large.
fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let limit = u64::try_from(LARGEST_PAGE).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(packed).take(limit).read_to_end(&mut text).ok()?;
    (text.len() <= LARGEST_PAGE).then_some(text)
}

/// What was read, then what is left.
fn chained(read: Vec<u8>, rest: ResponseBody) -> ResponseBody {
    let first = stream::once(async { Ok(Frame::data(Bytes::from(read))) });
    StreamBody::new(first.chain(BodyStream::new(rest))).boxed_unsync()
}

/// What was read, then the end that came too early, so that nobody takes it for the whole.
fn broken(read: Vec<u8>, error: BoxError) -> ResponseBody {
    StreamBody::new(stream::iter([Ok(Frame::data(Bytes::from(read))), Err(error)])).boxed_unsync()
}
