//! `namespaces/finalize`: replaces `spec.finalizers`; the namespace goes when none is left and it is being
//! deleted.

use serde_json::Value;

use crate::ApiError;
use crate::call::{Answer, Body, Call};
use crate::options::{WriteOptions, Writing};
use crate::rewrite::{Part, rewrite};

/// Takes the finalizers from the body.
pub(super) async fn update(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, Writing::Update)?;
    let wanted = call.decode(&body, &options)?;
    carrack_api::meta::check_name(&wanted, call.name())?;
    let revision = carrack_api::meta::resource_version(&wanted).to_owned();
    let change = |old: &Value| {
        let mut new = wanted.clone();
        call.strategy().prepare_part_update("finalize", &mut new, old);
        let wrong = call.strategy().validate_part_update("finalize", &new, old);
        if !wrong.is_empty() {
            return Err(carrack_api::status::invalid_object(&call.resource, call.name(), &wrong).into());
        }
        carrack_api::meta::set(&mut new, "resourceVersion", revision.as_str());
        Ok(new)
    };
    let result = rewrite(call, call.name(), Part::Exact, options.dry_run, change).await?;
    Ok(result.ok_or_else(|| call.not_found())?.into_answer(call))
}
