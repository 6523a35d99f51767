//! What a client is told when a webhook refuses, or when it cannot be asked. Pure.

use carrack_api::status::{Cause, Details};
use parking_lot::Mutex;
use serde_json::Value;

use crate::ApiError;
use crate::authn::text;

/// The reasons of upstream's API machinery.
const REASONS: &[&str] = &[
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "RequestEntityTooLarge",
    "ServerTimeout",
    "ServiceUnavailable",
    "StoreReadError",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "UnsupportedMediaType",
];
/// Other reasons that are passed on, and the longest; they stay in memory, so that a webhook that makes up new ones
/// has them dropped.
const OTHER_REASONS: usize = 256;
const LONGEST_REASON: usize = 128;

/// The refusal of a webhook: its `status`, with the webhook named in the message.
pub(super) fn denied(webhook: &str, status: Option<&Value>) -> ApiError {
    let empty = Value::Null;
    let status = status.unwrap_or(&empty);
    let denied = format!("admission webhook {webhook:?} denied the request");
    let (message, why) = (text(status, "/message"), text(status, "/reason"));
    let message = match (message, why) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) => format!("{denied}: {why}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = status.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    let mut refusal = carrack_api::Status {
        code,
        reason: reason(why),
        message,
        details: None,
        continue_token: None,
        remaining_items: None,
    };
    refusal.details = status.get("details").filter(|details| details.is_object()).map(details).map(Box::new);
    refusal.into()
}

fn details(of: &Value) -> Details {
    let own = |pointer: &str| text(of, pointer).to_owned();
    let causes = of.get("causes").and_then(Value::as_array).into_iter().flatten();
    let seconds = of.get("retryAfterSeconds").and_then(Value::as_u64);
    Details {
        name: own("/name"),
        group: own("/group"),
        kind: own("/kind"),
        uid: own("/uid"),
        causes: causes
            .map(|cause| Cause {
                reason: text(cause, "/reason").to_owned(),
                message: text(cause, "/message").to_owned(),
                field: text(cause, "/field").to_owned(),
            })
            .collect(),
        retry_after_seconds: seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0),
    }
}

/// A reason with the life time that statuses want.
fn reason(text: &str) -> &'static str {
    static OTHERS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    if let Some(known) = REASONS.iter().find(|known| **known == text) {
        return known;
    }
    let mut others = OTHERS.lock();
    if let Some(known) = others.iter().find(|known| **known == text) {
        return known;
    }
    if text.is_empty() || text.len() > LONGEST_REASON || others.len() >= OTHER_REASONS {
        return "";
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    others.push(kept);
    kept
}

/// A webhook that could not be asked: 500, as upstream has it, with the cause.
pub(super) fn not_asked(webhook: &str, why: &str) -> ApiError {
    ApiError::internal(calling(webhook, why))
}

/// What logs and clients are told of a webhook that could not be asked.
pub(super) fn calling(webhook: &str, why: &str) -> String {
    format!("failed calling webhook {webhook:?}: {why}")
}

/// What client libraries of upstream make of an answer that is no success.
pub(crate) fn unexpected(code: u16, body: &[u8]) -> String {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    if let Some(status) = status.filter(|status| text(status, "/kind") == "Status") {
        return text(&status, "/message").to_owned();
    }
    let body = String::from_utf8_lossy(body);
    let body = body.trim();
    match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => body.to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        409 => "the server reported a conflict".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing \
                the request"
                .to_owned()
        }
        500..=599 => format!("an error on the server ({body:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more details"),
    }
}
