//! `pods/eviction`: a deletion that respects disruption budgets. This server has no kind for budgets yet, so that
//! nothing stands against an eviction but the preconditions in its body.

use carrack_api::schema::bodies;
use carrack_api::{meta, status};

use crate::call::{Answer, Body, Call};
use crate::options::{DeleteOptions, WriteOptions};
use crate::{ApiError, Operation};

const EVICTION: (&str, &str) = ("policy/v1", "Eviction");

/// Deletes the pod as the Eviction in the body asks.
pub(super) async fn create(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let mut eviction = call.decode_as(&body, &bodies::EVICTION, EVICTION, &options)?;
    meta::check_name(&eviction, call.name())?;
    meta::check_namespace(&eviction, call.namespace())?;
    let admission = call.admission(Operation::Create, EVICTION.1, None, options.dry_run);
    call.mutate(&admission, &mut eviction).await?;
    call.judge(&admission, Some(&eviction)).await?;
    let mut deletion = DeleteOptions::parse(&call.query, eviction.get("deleteOptions"))?;
    deletion.dry_run |= options.dry_run;
    super::delete::delete_named(call, call.name(), &deletion).await?;
    let mut done = status::success(&call.resource, call.name(), "");
    done.code = 201;
    done.details = None;
    Ok(Answer::Other(201, done.to_value()))
}
