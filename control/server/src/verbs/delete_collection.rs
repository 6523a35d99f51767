//! `deletecollection`: every object of a selection, one by one.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::ApiError;
use crate::call::{Answer, Body, Call};
use crate::options::ListOptions;

/// Deletions that are under way at once.
const AT_ONCE: usize = 16;

/// Deletes what the selectors of the call select, and answers what was deleted.
pub(super) async fn delete(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = ListOptions::parse(&call.query)?;
    let deletion = super::delete::parse_options(call, &body)?;
    let page = super::list::page(call, &options).await?;
    let deletion = &deletion;
    let deleted: Vec<Option<Value>> = stream::iter(page.objects)
        .map(|found| async move {
            let object = found.stored().served(&call.resource)?;
            let name = carrack_api::meta::name(&object).to_owned();
            match super::delete::delete_named(call, &name, deletion).await {
                Ok(_) => Ok(Some(object)),
                // Somebody else was faster.
                Err(error) if error.code == 404 => Ok(None),
                Err(error) => Err(error),
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let items: Vec<Value> = deleted.into_iter().flatten().collect();
    let list = json!({
        "kind": call.resource.list_kind,
        "apiVersion": call.resource.api_version,
        "metadata": {"resourceVersion": page.revision.to_string()},
        "items": items,
    });
    Ok(Answer::Other(200, list))
}
