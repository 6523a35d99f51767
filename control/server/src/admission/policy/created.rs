//! Policies that are written: their expressions have to compile.

use carrack_api::status::invalid_object;
use serde_json::Value;

use super::compile::Policy;
use crate::call::Call;
use crate::{AdmissionRequest, ApiError};

/// The resources of policies.
const POLICIES: [&str; 2] = ["mutatingadmissionpolicies", "validatingadmissionpolicies"];

/// Refuses a policy with an expression that cannot be compiled.
pub(super) fn check(
    call: &Call,
    request: &AdmissionRequest<'_>,
    object: Option<&Value>,
) -> Result<(), ApiError> {
    let attributes = request.attributes;
    let is_policy = attributes.api_group == "admissionregistration.k8s.io"
        && POLICIES.contains(&attributes.resource.as_str())
        && attributes.subresource.is_empty();
    let Some(object) = object.filter(|_| is_policy) else { return Ok(()) };
    // What was let in before is left alone until it is changed.
    if request.old.is_some_and(|old| old["spec"] == object["spec"]) {
        return Ok(());
    }
    let (_, errors) = Policy::read(object).map_err(|why| ApiError::bad_request(why.to_string()))?;
    if errors.is_empty() {
        return Ok(());
    }
    let name = super::super::display_name(request, Some(object));
    Err(invalid_object(&call.resource, name, &errors).into())
}
