//! ComponentStatuses: asked for when they are read.

use carrack_api::select::{FieldSelector, LabelSelector};
use serde_json::Value;

use super::answered;
use crate::call::{Answer, Call};
use crate::{ApiError, components};

/// Upstream's words.
const WARNING: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// Answers `get` and `list`.
pub(super) async fn read(call: &Call) -> Result<Answer, ApiError> {
    call.warnings.add([WARNING.to_owned()]);
    let mut all = components::all(call.registry()).await?;
    if call.info.verb == "get" {
        let found = all.into_iter().find(|one| one["metadata"]["name"] == call.name());
        return found.map(|one| Answer::Object(200, one)).ok_or_else(|| call.not_found());
    }
    select(call, &mut all)?;
    answered::list(call, all)
}

/// Keeps what the selectors want; nothing has labels.
fn select(call: &Call, all: &mut Vec<Value>) -> Result<(), ApiError> {
    let text = |key| call.query.get(key).unwrap_or_default();
    let wrong = |error: carrack_api::select::SelectorError| ApiError::bad_request(error.to_string());
    let labels = LabelSelector::parse(text("labelSelector")).map_err(wrong)?;
    let fields = FieldSelector::parse(text("fieldSelector")).map_err(wrong)?;
    fields.check(&call.resource).map_err(wrong)?;
    all.retain(|one| {
        let name = one["metadata"]["name"].as_str();
        labels.matches(|_| None) && fields.matches(|field| name.filter(|_| field == "metadata.name"))
    });
    Ok(())
}
