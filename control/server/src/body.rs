//! Request and response bodies: one boxed type each, whatever transport they come from.

use bytes::Bytes;
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
