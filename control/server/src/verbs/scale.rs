//! `scale`: the number of replicas of a Deployment or ReplicaSet, as an `autoscaling/v1` Scale.

use carrack_api::custom::{Custom, path};
use carrack_api::patch::{self, PatchKind};
use carrack_api::schema::bodies;
use carrack_api::select::LabelSelector;
use carrack_api::status::{self, FieldError, FieldPath};
use carrack_api::{Resource, codec, meta};
use serde_json::{Value, json};

use crate::ApiError;
use crate::call::{Answer, Body, Call};
use crate::options::{WriteOptions, Writing};
use crate::rewrite::{Part, rewrite};

pub(super) const SCALE: (&str, &str) = ("autoscaling/v1", "Scale");

/// Answers the object's scale.
pub(super) async fn get(call: &Call) -> Result<Answer, ApiError> {
    let found = call.registry().get(&call.resource, call.namespace(), call.name()).await?;
    let kv = found.ok_or_else(|| call.not_found())?;
    let object = call.read(&kv).await?.object()?;
    Ok(Answer::Other(200, scale_of(&call.resource, &object)?))
}

/// Sets the replicas from a Scale.
pub(super) async fn update(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, Writing::Update)?;
    let wanted = call.decode_as(&body, &bodies::SCALE, SCALE, &options)?;
    meta::check_name(&wanted, call.name())?;
    write(call, options.dry_run, |_| Ok(wanted.clone())).await
}

/// Changes the scale by a patch.
pub(super) async fn patch(call: &Call, body: Body) -> Result<Answer, ApiError> {
    if call.is_apply() {
        return super::apply::apply_scale(call, body).await;
    }
    let kind = super::patch::kind(call)?;
    let options = WriteOptions::parse(&call.query, Writing::Patch)?;
    write(call, options.dry_run, |scale| {
        let mut scale = scale.clone();
        let decoded = codec::decode(&body, codec::Media::Json)
            .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
        let change = decoded.value.clone();
        match kind {
            // Only its result can be of a wrong type, and that is looked at below.
            PatchKind::Json => patch::json_patch(&mut scale, decoded.value)
                .map_err(|why| why.into_status(patch::Misfit::default))?,
            // A Scale has no lists, so that both kinds of merge mean the same.
            PatchKind::Merge | PatchKind::Strategic => patch::merge_patch(&mut scale, decoded.value),
        }
        let text = serde_json::to_vec(&scale).map_err(ApiError::internal)?;
        let decoded = codec::decode_type(&text, codec::Media::Json, &bodies::SCALE).map_err(|error| {
            let told = patch::Misfit::of(kind, &change, &scale, &bodies::SCALE.shape());
            carrack_api::status::invalid_patch(&told.shown, &told.why.unwrap_or_else(|| error.to_string()))
        })?;
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
        let scale = change(&scale_of(&call.resource, old)?)?;
        let replicas = replicas(&scale, call.name())?;
        let mut new = old.clone();
        set_replicas(&call.resource, &mut new, replicas.into());
        for field in ["resourceVersion", "uid"] {
            let wanted = scale["metadata"][field].as_str().unwrap_or_default();
            meta::set(&mut new, field, wanted);
        }
        Ok(new)
    };
    let result = rewrite(call, call.name(), Part::Object, dry_run, apply).await?;
    let object = result.ok_or_else(|| call.not_found())?.into_object()?;
    Ok(Answer::Other(200, scale_of(&call.resource, &object)?))
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

/// Sets the wanted replicas, wherever objects of the resource have them.
pub(crate) fn set_replicas(resource: &Resource, object: &mut Value, replicas: Value) {
    match resource.custom().and_then(|custom| custom.version().scale.as_ref()) {
        // Something else on the way is refused by validation, which sees the object as it is.
        Some(scale) => drop(path::set(object, &scale.spec, replicas)),
        None => object["spec"]["replicas"] = replicas,
    }
}

/// What a scale tells: wanted and present replicas, and the selector as text.
struct Numbers {
    wanted: i64,
    present: i64,
    selector: String,
}

fn numbers(resource: &Resource, object: &Value) -> Result<Numbers, ApiError> {
    if let Some(custom) = resource.custom() {
        return custom_numbers(custom, object);
    }
    let selector = LabelSelector::from_value(object.pointer("/spec/selector")).map_err(ApiError::internal)?;
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    Ok(Numbers {
        wanted: number("/spec/replicas"),
        present: number("/status/replicas"),
        selector: selector.to_string(),
    })
}

/// The same where a definition says where the numbers are.
fn custom_numbers(custom: &Custom, object: &Value) -> Result<Numbers, ApiError> {
    let scale = custom.version().scale.as_ref().ok_or_else(ApiError::no_such_path)?;
    let wanted = path::at(object, &scale.spec).and_then(Value::as_i64).ok_or_else(|| {
        ApiError::internal(format!("the spec replicas field \".{}\" does not exist", scale.spec.join(".")))
    })?;
    let selector = scale.selector.as_ref().and_then(|place| path::at(object, place)).and_then(Value::as_str);
    Ok(Numbers {
        wanted,
        present: path::at(object, &scale.status).and_then(Value::as_i64).unwrap_or(0),
        selector: selector.unwrap_or_default().to_owned(),
    })
}

/// The scale of an object.
pub(crate) fn scale_of(resource: &Resource, object: &Value) -> Result<Value, ApiError> {
    let Numbers { wanted, present, selector } = numbers(resource, object)?;
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    Ok(json!({
        "kind": SCALE.1,
        "apiVersion": SCALE.0,
        "metadata": metadata,
        "spec": {"replicas": wanted},
        "status": {"replicas": present, "selector": selector},
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
        let scale = scale_of(carrack_api::find("apps", "v1", "deployments").unwrap(), &object).unwrap();
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
        assert_eq!(scale["metadata"].get("labels"), None);
    }
}
