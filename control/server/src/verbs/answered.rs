//! Lists of what is answered and never stored, in every representation.

use carrack_api::table;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::{Answer, Call};
use crate::negotiate::Transform;
use crate::{ApiError, respond};

/// A list of whole objects of the resource that is asked for.
pub(crate) fn list(call: &Call, mut all: Vec<Value>) -> Result<Answer, ApiError> {
    let resource = &*call.resource;
    let metadata = json!({});
    let list = match call.representation.transform {
        Transform::None => {
            // As upstream has it, items do not repeat kind and apiVersion.
            for fields in all.iter_mut().filter_map(Value::as_object_mut) {
                fields.retain(|field, _| !matches!(field.as_str(), "kind" | "apiVersion"));
            }
            json!({
                "kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata, "items": all,
            })
        }
        Transform::Metadata(version) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": version.api_version(), "metadata": metadata,
            "items": all.iter().map(|one| table::partial_metadata(one, version)).collect::<Vec<_>>(),
        }),
        Transform::Table(version) => {
            let (include, now) = (respond::include(&call.query)?, Timestamp::now());
            let row = |one| table::row(resource, one, include, version, now);
            table::table(resource, version, metadata, all.iter().map(row).collect(), true)
        }
    };
    Ok(Answer::Other(200, list))
}
