//! `matchConditions`: expressions in CEL that say which requests a webhook wants to be asked about.
//!
//! They are not evaluated yet. To ask a webhook about what it does not want would be as wrong as not to ask it, so
//! that a configuration that has them is refused.

use carrack_api::status::{self, FieldError, FieldPath};
use serde_json::Value;

use crate::{AdmissionRequest, ApiError, Operation};

/// Refuses a webhook configuration with conditions: 422.
pub(super) fn check(request: &AdmissionRequest<'_>, object: Option<&Value>) -> Result<(), ApiError> {
    const KINDS: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    let Some(object) = object.filter(|_| written && KINDS.contains(&request.kind)) else { return Ok(()) };
    let webhooks = object.get("webhooks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let has = |hook: &Value| hook["matchConditions"].as_array().is_some_and(|list| !list.is_empty());
    let Some(place) = webhooks.iter().position(has) else { return Ok(()) };
    let path = FieldPath::root("webhooks").index(place).child("matchConditions");
    let why = "this server does not evaluate conditions of webhooks yet; use rules and selectors";
    let error = FieldError::forbidden(&path, why);
    let name = carrack_api::meta::name(object);
    Err(status::invalid(super::super::matching::GROUP, request.kind, name, &[error]).into())
}
