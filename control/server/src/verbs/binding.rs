//! `pods/binding` and `bindings`: assigns a pod to a node, once.

use carrack_api::schema::bodies;
use carrack_api::status::{self, FieldError, FieldPath};
use carrack_api::{Resource, Scope, find, meta};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::budget::set_condition;
use crate::admission::optional::LABELS;
use crate::call::{Answer, Body, Call};
use crate::options::{WriteOptions, Writing};
use crate::rewrite::{Part, rewrite};
use crate::{ApiError, Operation};

/// Binds the pod that the path (or, for `bindings`, the body) names to the node in the body.
pub(super) async fn create(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, Writing::Create)?;
    let mut binding = call.decode_as(&body, &bodies::BINDING, ("v1", "Binding"), &options)?;
    let name = if call.name().is_empty() { meta::name(&binding).to_owned() } else { call.name().to_owned() };
    if call.subresource.is_some() {
        meta::check_name(&binding, &name)?;
    }
    meta::check_namespace(&binding, &call.info.namespace)?;
    meta::set(&mut binding, "name", name.as_str());
    meta::set(&mut binding, "namespace", call.info.namespace.as_str());
    let node = target(&binding, &name)?;
    let admission = call.admission(Operation::Create, "Binding", None, options.dry_run);
    call.mutate(&admission, &mut binding).await?;
    call.judge(&admission, Some(&binding)).await?;
    let pods = call.on(pods()?);
    let change = |old: &Value| bind(old, &binding, &node, Timestamp::now());
    let bound = rewrite(&pods, &name, Part::Exact, options.dry_run, change).await?;
    bound.ok_or_else(|| ApiError::from(status::not_found(&pods.resource, &name)))?;
    let mut done = status::success(&call.resource, &name, "");
    done.code = 201;
    done.details = None;
    Ok(Answer::Other(201, done.to_value()))
}

/// The pods of the table.
fn pods() -> Result<&'static Resource, ApiError> {
    find("", "v1", "pods")
        .filter(|r| r.scope == Scope::Namespaced)
        .ok_or_else(|| ApiError::internal("the table has no pods"))
}

/// The node that the binding names; 422 when it names none.
fn target(binding: &Value, name: &str) -> Result<String, ApiError> {
    let path = FieldPath::root("target");
    let text = |field: &str| {
        binding.pointer(&format!("/target/{field}")).and_then(Value::as_str).unwrap_or_default()
    };
    let mut errors = Vec::new();
    if !matches!(text("kind"), "" | "Node") {
        errors.push(FieldError::not_supported(&path.child("kind"), text("kind"), &["Node", "<empty>"]));
    }
    if text("name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    if errors.is_empty() {
        return Ok(text("name").to_owned());
    }
    Err(status::invalid("", "Binding", name, &errors).into())
}

/// The pod, bound to `node`; 409 when it cannot be bound.
fn bind(pod: &Value, binding: &Value, node: &str, now: Timestamp) -> Result<Value, ApiError> {
    let name = meta::name(pod);
    let conflict = |why: String| Err(ApiError::conflict("", "pods/binding", name, &why));
    let wanted = meta::uid(binding);
    if !wanted.is_empty() && wanted != meta::uid(pod) {
        let why = status::storage_uid_mismatch(
            &format!("/registry/pods/{}/{name}", meta::namespace(pod)),
            wanted,
            meta::uid(pod),
        );
        return Err(ApiError::conflict("", "bindings", name, &why));
    }
    if meta::is_deleting(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(other) = pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|n| !n.is_empty()) {
        return conflict(format!("pod {name} is already assigned to node {other:?}"));
    }
    if pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|g| !g.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut bound = pod.clone();
    bound["spec"]["nodeName"] = json!(node);
    copy_annotations(&mut bound, binding);
    copy_topology(&mut bound, binding);
    set_scheduled(&mut bound, now);
    Ok(bound)
}

/// A binding's annotations go to the pod.
fn copy_annotations(pod: &mut Value, binding: &Value) {
    let Some(annotations) = binding.pointer("/metadata/annotations").and_then(Value::as_object) else {
        return;
    };
    for (key, value) in annotations {
        pod["metadata"]["annotations"][key] = value.clone();
    }
}

/// So do the labels that say where the node is, which PodTopologyLabels gave to the binding.
fn copy_topology(pod: &mut Value, binding: &Value) {
    for label in LABELS {
        if let Some(value) = binding.pointer("/metadata/labels").and_then(|labels| labels.get(label)) {
            pod["metadata"]["labels"][label] = value.clone();
        }
    }
}

/// Sets the condition PodScheduled.
fn set_scheduled(pod: &mut Value, now: Timestamp) {
    let condition = json!({
        "type": "PodScheduled", "status": "True",
        "lastProbeTime": null, "lastTransitionTime": meta::format_time(now),
    });
    set_condition(&mut pod["status"], condition);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Value {
        json!({"metadata": {"name": "a", "annotations": {"k": "v"}}, "target": {"kind": "Node", "name": "n"}})
    }

    #[test]
    fn binds_once() {
        let pod = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}});
        let bound = bind(&pod, &binding(), "n", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(bound["spec"]["nodeName"], "n");
        assert_eq!(bound["metadata"]["annotations"]["k"], "v");
        assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
        let again = bind(&bound, &binding(), "m", Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(again.code, 409);
        assert!(again.message.contains("already assigned to node \"n\""), "{}", again.message);
    }

    #[test]
    fn gates_deletion_and_other_uids_refuse() {
        let gated = json!({"metadata": {"name": "a"}, "spec": {"schedulingGates": [{"name": "g"}]}});
        let going =
            json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}});
        for pod in [gated, going] {
            assert_eq!(bind(&pod, &binding(), "n", Timestamp::UNIX_EPOCH).unwrap_err().code, 409);
        }
        let mut other = binding();
        other["metadata"]["uid"] = json!("other");
        let pod = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {}});
        assert_eq!(bind(&pod, &other, "n", Timestamp::UNIX_EPOCH).unwrap_err().code, 409);
        assert_eq!(target(&json!({"target": {"kind": "Pod", "name": "x"}}), "a").unwrap_err().code, 422);
    }
}
