//! `update`: the object becomes what the body says; for some kinds it is created when it is not there.

use carrack_api::meta;
use serde_json::Value;

use crate::ApiError;
use crate::call::{Answer, Body, Call};
use crate::object::to_storage;
use crate::options::{WriteOptions, Writing};
use crate::rewrite::{other_uid, rewrite};

pub(super) use crate::rewrite::Part;

/// Updates the object that the request names, or its status.
pub(super) async fn update(call: &Call, body: Body, part: Part) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, Writing::Update)?;
    let served = call.decode(&body, &options)?;
    meta::check_name(&served, call.name())?;
    // The first round takes what is decoded; the rare further ones decode it anew.
    let mut decoded = Some(served);
    let wanted = |_: &Value| {
        let mut wanted = decoded.take().map_or_else(|| call.decode(&body, &options), Ok)?;
        to_storage(&call.resource, &mut wanted);
        Ok(wanted)
    };
    if let Some(result) = rewrite(call, call.name(), part, options.dry_run, wanted).await? {
        return Ok(result.into_answer(call));
    }
    let served = decoded.map_or_else(|| call.decode(&body, &options), Ok)?;
    if !meta::uid(&served).is_empty() {
        return Err(other_uid(call, call.name(), meta::uid(&served), ""));
    }
    if part == Part::Object && call.resource.strategy().allows_create_on_update() {
        return create(call, served, &options).await;
    }
    Err(call.not_found())
}

/// Creates the object that an update did not find, which has to be allowed on its own.
async fn create(call: &Call, mut object: Value, options: &WriteOptions) -> Result<Answer, ApiError> {
    if !meta::resource_version(&object).is_empty() {
        return Err(call.not_found());
    }
    super::create::authorize(call).await?;
    meta::set(&mut object, "name", call.name());
    super::create::from_object(call, object, options).await
}
