//! `get`: one object as of now, or not older than the revision that is asked for.

use carrack_store::Range;

use super::list::reach;
use crate::ApiError;
use crate::call::{Answer, Call};
use crate::options::revision;

/// Answers the object.
pub(super) async fn get(call: &Call) -> Result<Answer, ApiError> {
    let least = revision(&call.query)?;
    if let Some(least) = least {
        reach(call, least).await?;
    }
    // What is new enough here needs no question to the store's leader.
    let key = Range::key(call.resource.key(call.namespace(), call.name()));
    let found = call.registry().range(Range { serializable: least.is_some(), ..key }).await?;
    let kv = found.kvs.into_iter().next().ok_or_else(|| call.not_found())?;
    Ok(Answer::Stored(200, call.read(&kv).await?))
}
