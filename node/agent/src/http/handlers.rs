//! Answers requests that have been let in.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};

use super::api::{ApiFailure, NodeApi, Target};
use super::logs::{LogOptions, LogReader};
use super::route::{Route, RouteError, route};
use super::server::Context;
use super::streaming::{self, Pod, Wanted};

/// A body: a text, or a stream that may break off.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Answers one request.
pub(super) async fn answer<A: NodeApi>(
    context: Arc<Context<A>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let found = match route(request.method(), request.uri()) {
        Ok(found) => found,
        Err(RouteError::NotFound) => return Ok(text(StatusCode::NOT_FOUND, "404 page not found")),
        Err(RouteError::Method) => return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")),
        Err(RouteError::Bad(message)) => return Ok(text(StatusCode::BAD_REQUEST, message)),
    };
    let outcome = match found {
        Route::Healthz => match context.api.healthy() {
            Ok(()) => Ok(text(StatusCode::OK, "ok")),
            Err(reason) => Err(ApiFailure::Internal(reason)),
        },
        Route::Pods => json(&context.api.pods()),
        Route::StatsSummary => context.api.stats_summary().await.and_then(|summary| json(&summary)),
        Route::ResourceMetrics => context.api.resource_metrics().await.map(metrics),
        Route::Logs(target, options) => logs(&*context.api, &target, options).await,
        Route::Exec(target, exec) => streaming::start(context, request, Wanted::Exec(target, exec)),
        Route::Attach(target, streams) => streaming::start(context, request, Wanted::Attach(target, streams)),
        Route::PortForward { namespace, pod, ports } => {
            let pod = Pod { namespace, name: pod, ports };
            streaming::start(context, request, Wanted::PortForward(pod))
        }
    };
    Ok(outcome.unwrap_or_else(|failure| text(status(&failure), failure.to_string())))
}

/// The log of a container, streamed.
async fn logs<A: NodeApi>(
    api: &A,
    target: &Target,
    options: LogOptions,
) -> Result<Response<Body>, ApiFailure> {
    let source = api.logs(target, options.previous).await?;
    let path = source.path.clone();
    let reader = LogReader::open(source, options).await.map_err(|error| {
        ApiFailure::Internal(format!("failed to read the log {}: {error}", path.display()))
    })?;
    let frames = reader.into_stream().map(|chunk| chunk.map(Frame::data));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn json(value: &impl serde::Serialize) -> Result<Response<Body>, ApiFailure> {
    let bytes = serde_json::to_vec(value).map_err(|error| ApiFailure::Internal(error.to_string()))?;
    let mut response = Response::new(full(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Metrics in Prometheus' text format.
fn metrics(body: String) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// An answer of plain text.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    }
    response
}

/// A body that is at hand.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The HTTP status of a failure.
pub(super) fn status(failure: &ApiFailure) -> StatusCode {
    match failure {
        ApiFailure::BadRequest(_) => StatusCode::BAD_REQUEST,
        ApiFailure::NotFound(_) => StatusCode::NOT_FOUND,
        ApiFailure::Conflict(_) => StatusCode::CONFLICT,
        ApiFailure::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        ApiFailure::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
    }
}
