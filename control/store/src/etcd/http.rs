//! What is answered over plain HTTP: `/health`, `/version`, `/metrics`.

use http::{Method, Request, Response, StatusCode, header};
use tonic::body::Body;

use super::{API_VERSION, Face, exposition};
use crate::alarm::AlarmKind;
use crate::txn::Range;

/// Any key will do: what counts is that a majority answers.
const HEALTH_KEY: &str = "health";

pub(super) async fn answer<B>(face: &Face, request: &Request<B>) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "Method Not Allowed\n".to_owned());
    }
    match request.uri().path() {
        "/health" => {
            let reason = unhealthy(face, request.uri().query().unwrap_or_default()).await;
            let code = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let reason = reason.unwrap_or_default();
            let health = serde_json::json!({ "health": reason.is_empty().to_string(), "reason": reason });
            text(code, "application/json", health.to_string())
        }
        "/version" => {
            let version = serde_json::json!({ "etcdserver": API_VERSION, "etcdcluster": API_VERSION });
            text(StatusCode::OK, "application/json", version.to_string())
        }
        "/metrics" => {
            text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", exposition::text(face))
        }
        _ => text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
    }
}

/// Why the member is not well. The query may exclude alarms (`exclude=NOSPACE`), and ask about this member alone
/// (`serializable=true`).
async fn unhealthy(face: &Face, query: &str) -> Option<String> {
    let has = |wanted: &str| query.split('&').any(|part| part == wanted);
    for alarm in face.store.alarms() {
        let name = match alarm.kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        };
        if !has(&format!("exclude={name}")) {
            return Some(format!("ALARM {name}"));
        }
    }
    let serializable = has("serializable=true");
    if !serializable && face.store.status().leader.is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = Range { serializable, count_only: true, ..Range::key(HEALTH_KEY) };
    face.store.range(read).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

fn text(code: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
