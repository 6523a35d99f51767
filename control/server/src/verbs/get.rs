//! `get`: one object as of now.

use crate::ApiError;
use crate::call::{Answer, Call};

/// Answers the object.
pub(super) async fn get(call: &Call) -> Result<Answer, ApiError> {
    let found = call.registry().get(&call.resource, call.namespace(), call.name()).await?;
    let kv = found.ok_or_else(|| call.not_found())?;
    Ok(Answer::Stored(200, call.read(&kv).await?))
}
