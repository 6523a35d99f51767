//! From what a verb answers to an HTTP response: representation, warnings, compression.

use std::io::Write;

use bytes::Bytes;
use carrack_api::status::{FieldError, FieldPath};
use carrack_api::table::{self, Include, Version};
use carrack_api::{Resource, meta};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING,
};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::{Answer, Call};
use crate::negotiate::{Media, Representation, Transform};
use crate::query::Query;
use crate::{ApiError, BoxError, ResponseBody, full, protobuf};

/// Answers smaller than this are not compressed; upstream's figure.
const GZIP_FROM: u64 = 128 * 1024;
/// Characters of all warnings; with more, each is cut to `CUT_WARNING` and what is still too much is left out. Upstream's
/// figures.
const MAX_WARNINGS: usize = 4096;
const CUT_WARNING: usize = 256;

/// A body made piece by piece while it is sent.
pub(crate) struct Pieces {
    /// The pieces, in order. An error ends the connection, so that no client takes half an answer for a whole.
    pub(crate) pieces: Box<dyn Iterator<Item = Result<Bytes, BoxError>> + Send>,
    /// The length in bytes, where it is known beforehand.
    pub(crate) length: Option<u64>,
}

impl Pieces {
    /// Pieces that are all there.
    pub(crate) fn ready(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(|p| p.len() as u64).sum();
        Pieces { pieces: Box::new(pieces.into_iter().map(Ok)), length: Some(length) }
    }

    /// The response with these pieces as its body, compressed where the client takes it and it pays.
    pub(crate) fn into_response(self, code: u16, representation: &Representation) -> Response<ResponseBody> {
        let compress = representation.gzip && self.length.is_none_or(|l| l >= GZIP_FROM);
        let pieces: Box<dyn Iterator<Item = Result<Bytes, BoxError>> + Send> =
            if compress { Box::new(Gzip::new(self.pieces)) } else { self.pieces };
        let frames = stream::unfold(pieces, |mut pieces| async {
            // Making a piece takes a while: others get their turn between two.
            tokio::task::yield_now().await;
            Some((pieces.next()?.map(Frame::data), pieces))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        set_code(&mut response, code);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(representation.media.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        if compress {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        } else if let Some(length) = self.length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        response
    }
}

/// Compresses pieces one by one.
struct Gzip<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Gzip<I> {
    fn new(pieces: I) -> Self {
        // The fastest level, as upstream: the network is rarely slower than a better level.
        Gzip { pieces, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl<I: Iterator<Item = Result<Bytes, BoxError>>> Iterator for Gzip<I> {
    type Item = Result<Bytes, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let encoder = self.encoder.as_mut()?;
            match self.pieces.next() {
                Some(Ok(piece)) => {
                    if let Err(error) = encoder.write_all(&piece) {
                        return Some(Err(error.into()));
                    }
                    let out = std::mem::take(encoder.get_mut());
                    if !out.is_empty() {
                        return Some(Ok(out.into()));
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    let last = self.encoder.take()?.finish();
                    return Some(last.map(Bytes::from).map_err(Into::into));
                }
            }
        }
    }
}

/// Sets a status code; one that is none becomes 500.
fn set_code(response: &mut Response<ResponseBody>, code: u16) {
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
}

/// Writes a value in the text form that was agreed on.
pub(crate) fn to_text(value: &Value, representation: &Representation) -> Result<Bytes, ApiError> {
    let text = match representation.media {
        Media::Yaml => serde_saphyr::to_string(value).map_err(ApiError::internal)?.into_bytes(),
        Media::Json if representation.pretty => {
            let mut text = serde_json::to_vec_pretty(value).map_err(ApiError::internal)?;
            text.push(b'\n');
            text
        }
        Media::Json | Media::Protobuf => {
            let mut text = serde_json::to_vec(value).map_err(ApiError::internal)?;
            text.push(b'\n');
            text
        }
    };
    Ok(text.into())
}

/// A response with a value as its body.
pub(crate) fn value(code: u16, value: &Value, representation: &Representation) -> Response<ResponseBody> {
    if representation.media == Media::Protobuf {
        // Clients read what they get by its label: what has no message is JSON.
        return match protobuf::encode::object(value) {
            Some(message) => Pieces::ready(vec![message.into()]).into_response(code, representation),
            None => self::value(code, value, &representation.as_json()),
        };
    }
    match to_text(value, representation) {
        Ok(text) => Pieces::ready(vec![text]).into_response(code, representation),
        Err(error) => refusal(&error),
    }
}

/// A response of plain text.
pub(crate) fn text(code: u16, text: impl Into<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(full(text));
    set_code(&mut response, code);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// The response for a failed request: a `Status` as JSON.
pub(crate) fn refusal(error: &ApiError) -> Response<ResponseBody> {
    refusal_as(error, &Representation::plain())
}

/// The response for a failed request: a `Status`.
pub(crate) fn refusal_as(error: &ApiError, representation: &Representation) -> Response<ResponseBody> {
    let mut response = match representation.media {
        Media::Json => {
            let mut body = if representation.pretty { error.to_json_pretty() } else { error.to_json() };
            body.push(b'\n');
            Pieces::ready(vec![body.into()]).into_response(error.code, representation)
        }
        Media::Yaml | Media::Protobuf => value(error.code, &error.to_value(), representation),
    };
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if error.code == 401 {
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The response to a request for what nobody serves: upstream has a `Status` for it where it knows the beginning of the path,
/// and a line of text elsewhere.
pub(crate) fn nothing_at(
    path: &str,
    error: &ApiError,
    representation: &Representation,
) -> Response<ResponseBody> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let known = match (segments.next(), segments.next()) {
        (Some("api" | "version"), _) => true,
        (Some("apis"), Some(group)) => carrack_api::resources().iter().any(|row| row.group == group),
        _ => false,
    };
    if known { refusal_as(error, representation) } else { text(404, "404 page not found\n") }
}

/// Sets that no cache between may keep the answer, unless it says otherwise.
pub(crate) fn keep_private(response: &mut Response<ResponseBody>) {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
}

/// The response of a call.
pub(crate) fn respond(call: &Call, answer: Answer) -> Result<Response<ResponseBody>, ApiError> {
    let mut response = match answer {
        Answer::Stored(code, stored) if call.representation.is_verbatim() => {
            let [head, tail] = stored.parts(&call.resource)?;
            Pieces::ready(vec![head, tail]).into_response(code, &call.representation)
        }
        Answer::Stored(code, stored) if is_message(call) => {
            match protobuf::encode::stored(&call.resource, &stored) {
                Some(message) => {
                    Pieces::ready(vec![message.into()]).into_response(code, &call.representation)
                }
                None => object(call, code, stored.served(&call.resource)?)?,
            }
        }
        Answer::Stored(code, stored) => object(call, code, stored.served(&call.resource)?)?,
        Answer::Object(code, served) => object(call, code, served)?,
        Answer::Other(code, other) => self::other(call, code, &other)?,
        Answer::Ready(response) => response,
    };
    add_warnings(&mut response, call.warnings.take());
    Ok(response)
}

/// Whether the stored form is answered as a message, without anything in between.
fn is_message(call: &Call) -> bool {
    let Representation { media, transform, .. } = call.representation;
    media == Media::Protobuf && transform == Transform::None && call.resource.is_storage_version()
}

/// An object of another kind. A Scale has other forms; what has none is sent as it is.
fn other(call: &Call, code: u16, other: &Value) -> Result<Response<ResponseBody>, ApiError> {
    let body = match call.representation.transform {
        Transform::Table(version) if other["kind"] == "Scale" => {
            table::scale_table(other, include(&call.query)?, version, Timestamp::now())
        }
        Transform::Metadata(version) if other["kind"] == "Scale" => table::partial_metadata(other, version),
        _ => return Ok(value(code, other, &call.representation.untransformed())),
    };
    Ok(value(code, &body, &call.representation))
}

/// One object in the representation that was agreed on.
fn object(call: &Call, code: u16, served: Value) -> Result<Response<ResponseBody>, ApiError> {
    let body = match call.representation.transform {
        Transform::None => served,
        Transform::Metadata(version) => table::partial_metadata(&served, version),
        Transform::Table(version) => {
            let include = include(&call.query)?;
            single_table(&call.resource, &served, include, version)
        }
    };
    Ok(value(code, &body, &call.representation))
}

/// A table of one object.
fn single_table(resource: &Resource, object: &Value, include: Include, version: Version) -> Value {
    let metadata = json!({"resourceVersion": meta::resource_version(object)});
    let row = table::row(resource, object, include, version, Timestamp::now());
    table::table(resource, version, metadata, vec![row], true)
}

/// What rows of a table carry; 400 when the query asks for something else.
pub(crate) fn include(query: &Query) -> Result<Include, ApiError> {
    let text = query.get("includeObject").unwrap_or_default();
    Include::parse(text).ok_or_else(|| {
        let why = "must be 'Metadata', 'Object', 'None', or empty";
        let error = FieldError::invalid(&FieldPath::root("includeObject"), text, why);
        ApiError::bad_request(format!("Unable to convert to Table as requested: {error}"))
    })
}

/// Adds `Warning` headers: code 299 and the text in quotes.
pub(crate) fn add_warnings(response: &mut Response<ResponseBody>, warnings: Vec<String>) {
    let length = |text: &String| text.chars().count();
    let cut =
        if warnings.iter().map(length).sum::<usize>() > MAX_WARNINGS { CUT_WARNING } else { MAX_WARNINGS };
    let mut left = MAX_WARNINGS;
    for warning in warnings {
        let Some(rest) = left.checked_sub(length(&warning).min(cut)) else { break };
        left = rest;
        let clean: String = warning
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(cut)
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain(Some(c)))
            .collect();
        if let Ok(header) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) {
            response.headers_mut().append(WARNING, header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn gzip_keeps_every_byte() {
        let pieces: Vec<Bytes> = (0..100).map(|i| Bytes::from(vec![i as u8; 5000])).collect();
        let whole: Vec<u8> = pieces.iter().flatten().copied().collect();
        let packed: Vec<u8> = Gzip::new(pieces.into_iter().map(Ok)).flat_map(|p| p.unwrap()).collect();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, whole);
        assert!(packed.len() < whole.len() / 10);
    }

    #[test]
    fn warnings_are_quoted_and_bounded() {
        let mut response = text(200, "");
        add_warnings(&mut response, vec!["unknown field \"spec.x\"\n".to_owned(), "y".repeat(5000)]);
        let headers: Vec<&HeaderValue> = response.headers().get_all(WARNING).iter().collect();
        assert_eq!(headers[0], "299 - \"unknown field \\\"spec.x\\\" \"");
        assert_eq!(headers[1].len(), "299 - \"\"".len() + CUT_WARNING);
    }
}
