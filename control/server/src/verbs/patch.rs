//! `patch`: JSON, merge and strategic merge patches, and server-side apply, tried anew when the object changes meanwhile.

use carrack_api::patch::{self, PatchKind};
use carrack_api::{meta, status};
use serde_json::Value;

use crate::ApiError;
use crate::call::{Answer, Body, Call};
use crate::object::{as_served, to_storage};
use crate::options::{WriteOptions, Writing};
use crate::rewrite::{Part, rewrite};

/// Patches the object that the request names, or its status.
pub(super) async fn patch(call: &Call, body: Body, part: Part) -> Result<Answer, ApiError> {
    if call.is_apply() {
        return super::apply::apply(call, body, part).await;
    }
    let kind = kind(call)?;
    let options = WriteOptions::parse(&call.query, Writing::Patch)?;
    let change = |old: &Value| {
        let served = as_served(&call.resource, old).into_owned();
        let served_again = || as_served(&call.resource, old).into_owned();
        let decoded = patch::apply(kind, &call.resource, served, &body).map_err(|why| {
            why.into_status(|| patch::wrong_result(kind, &call.resource, served_again(), &body))
        })?;
        let mut new = call.settle_strict(decoded, options.field_validation)?;
        check_kept(call, &new, old)?;
        to_storage(&call.resource, &mut new);
        Ok(new)
    };
    let result = rewrite(call, call.name(), part, options.dry_run, change).await?;
    Ok(result.ok_or_else(|| call.not_found())?.into_answer(call))
}

/// The kind of patch; 415 for what is not understood.
pub(super) fn kind(call: &Call) -> Result<PatchKind, ApiError> {
    let allowed = PatchKind::media_types_of(&call.resource);
    PatchKind::from_media_type(&call.content_type)
        .filter(|_| allowed.contains(&call.content_type.as_str()))
        .ok_or_else(|| status::unsupported_media_type(allowed).into())
}

/// A patch changes an object and does not make it another one.
fn check_kept(call: &Call, new: &Value, old: &Value) -> Result<(), ApiError> {
    if meta::name(new) != meta::name(old) {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            meta::name(new),
            call.name()
        )));
    }
    Ok(())
}
