//! `scale`: the number of replicas of a Deployment or ReplicaSet, as an `autoscaling/v1` Scale.

use carrack_api::patch::{self, PatchKind};
use carrack_api::schema::bodies;
use carrack_api::select::LabelSelector;
use carrack_api::status::{self, FieldError, FieldPath};
use carrack_api::{codec, meta};
use serde_json::{Value, json};

use crate::ApiError;
use crate::call::{Answer, Body, Call};
use crate::object::Stored;
use crate::options::WriteOptions;
use crate::rewrite::{Part, rewrite};

pub(super) const SCALE: (&str, &str) = ("autoscaling/v1", "Scale");

/// Answers the object's scale.
pub(super) async fn get(call: &Call) -> Result<Answer, ApiError> {
    let found = call.registry().get(call.resource, call.namespace(), call.name()).await?;
    let kv = found.ok_or_else(|| call.not_found())?;
    Ok(Answer::Other(200, scale_of(&Stored::from(&*kv).object()?)?))
}

/// Sets the replicas from a Scale.
pub(super) async fn update(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let wanted = call.decode_as(&body, &bodies::SCALE, SCALE, &options)?;
    meta::check_name(&wanted, call.name())?;
    write(call, options.dry_run, |_| Ok(wanted.clone())).await
}

/// Changes the scale by a patch.
pub(super) async fn patch(call: &Call, body: Body) -> Result<Answer, ApiError> {
    if call.is_apply() {
        return super::apply::apply_scale(call, body).await;
    }
    let options = WriteOptions::parse(&call.query, "PatchOptions")?;
    let kind = super::patch::kind(call)?;
    write(call, options.dry_run, |scale| {
        let mut scale = scale.clone();
        let decoded = codec::decode(&body, codec::Media::Json)
            .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
        match kind {
            PatchKind::Json => patch::json_patch(&mut scale, decoded.value).map_err(|why| {
                why.into_status(call.resource, call.name(), &String::from_utf8_lossy(&body))
            })?,
            // A Scale has no lists, so that both kinds of merge mean the same.
            PatchKind::Merge | PatchKind::Strategic => patch::merge_patch(&mut scale, decoded.value),
        }
        let text = serde_json::to_vec(&scale).map_err(ApiError::internal)?;
        let decoded = codec::decode_type(&text, codec::Media::Json, &bodies::SCALE)
            .map_err(|e| ApiError::bad_request(format!("the patched Scale is not valid: {e}")))?;
        call.settle_strict(decoded, options.field_validation)
    })
    .await
}

/// Writes the replicas that `change` makes of the present scale.
async fn write(
    call: &Call,
    dry_run: bool,
    change: impl Fn(&Value) -> Result<Value, ApiError> + Send + Sync,
) -> Result<Answer, ApiError> {
    let apply = |old: &Value| {
        let scale = change(&scale_of(old)?)?;
        let replicas = replicas(&scale, call.name())?;
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(replicas);
        for field in ["resourceVersion", "uid"] {
            let wanted = scale["metadata"][field].as_str().unwrap_or_default();
            meta::set(&mut new, field, wanted);
        }
        Ok(new)
    };
    let result = rewrite(call, call.name(), Part::Object, dry_run, apply).await?;
    let object = result.ok_or_else(|| call.not_found())?.into_object()?;
    Ok(Answer::Other(200, scale_of(&object)?))
}

/// The replicas of a Scale; 422 when negative.
fn replicas(scale: &Value, name: &str) -> Result<i64, ApiError> {
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas >= 0 {
        return Ok(replicas);
    }
    let path = FieldPath::root("spec").child("replicas");
    let error = FieldError::invalid(&path, replicas, carrack_api::names::NOT_NEGATIVE);
    Err(status::invalid("autoscaling", "Scale", name, &[error]).into())
}

/// The scale of an object.
pub(crate) fn scale_of(object: &Value) -> Result<Value, ApiError> {
    let selector = LabelSelector::from_value(object.pointer("/spec/selector")).map_err(ApiError::internal)?;
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    Ok(json!({
        "kind": SCALE.1,
        "apiVersion": SCALE.0,
        "metadata": metadata,
        "spec": {"replicas": number("/spec/replicas")},
        "status": {"replicas": number("/status/replicas"), "selector": selector.to_string()},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_tells_the_selector_as_text() {
        let object = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
            "status": {"replicas": 2},
        });
        let scale = scale_of(&object).unwrap();
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
        assert_eq!(scale["metadata"].get("labels"), None);
    }
}
