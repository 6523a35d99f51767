//! What changes and judges objects on their way in: one small file for each plugin, and the order they run in.

pub(crate) mod annotations;
mod certificate_request;
mod config;
mod default_class;
mod default_tolerations;
mod limit_ranger;
pub mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod pod_security;
pub(crate) mod policy;
mod priority;
mod runtime_class;
mod service_account;
mod storage;
mod taint_nodes;
#[cfg(test)]
mod tests;
pub(crate) mod webhook;

use std::sync::Arc;

use serde_json::{Map, Value, json};

pub use certificate_request::CertificateRequest;
pub use config::{AdmissionConfig, AdmissionConfigError, read_config};
pub use default_class::DefaultIngressClass;
pub use default_tolerations::DefaultTolerationSeconds;
pub use limit_ranger::LimitRanger;
pub use namespace_lifecycle::NamespaceLifecycle;
pub use node_restriction::NodeRestriction;
pub use pod_security::{Level, PodSecurity, PodSecurityConfig, Policy, Standard, Version};
pub use priority::Priority;
pub use runtime_class::RuntimeClass;
pub use service_account::ServiceAccount;
pub(crate) use service_account::is_mirror;
pub use storage::{DefaultStorageClass, PersistentVolumeClaimResize, StorageObjectInUseProtection};
pub use taint_nodes::TaintNodesByCondition;
pub use webhook::WebhookCredentials;

use crate::authn::Objects;
use crate::authz::{Escalation, Rbac};
use crate::{Admission, AdmissionRequest, Authorizer, Operation};

/// The plugins in the order they run, which is upstream's: a pod for a namespace that is going is refused before
/// anything is looked up for it, and what a node may do is judged before its object is completed. Quotas come last of
/// all: they are charged with the write itself, see [`crate::ApiServer`].
pub fn plugins(
    objects: &Arc<dyn Objects>,
    rbac: &Arc<Rbac>,
    authorizers: &[Arc<dyn Authorizer>],
) -> Vec<Arc<dyn Admission>> {
    plugins_with(objects, rbac, authorizers, PodSecurityConfig::default())
}

/// The same, with defaults and exemptions of pod security.
pub fn plugins_with(
    objects: &Arc<dyn Objects>,
    rbac: &Arc<Rbac>,
    authorizers: &[Arc<dyn Authorizer>],
    pod_security: PodSecurityConfig,
) -> Vec<Arc<dyn Admission>> {
    let objects = || Arc::clone(objects);
    vec![
        Arc::new(NamespaceLifecycle::new(objects())),
        Arc::new(LimitRanger::new(objects())),
        Arc::new(ServiceAccount::new(objects())),
        Arc::new(NodeRestriction::new(objects(), authorizers.to_vec())),
        Arc::new(TaintNodesByCondition),
        Arc::new(PodSecurity::new(objects(), pod_security)),
        Arc::new(Priority::new(objects())),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(DefaultStorageClass::new(objects())),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(PersistentVolumeClaimResize::new(objects())),
        Arc::new(RuntimeClass::new(objects())),
        Arc::new(CertificateRequest::new(authorizers.to_vec())),
        Arc::new(DefaultIngressClass::new(objects())),
        Arc::new(Escalation::new(Arc::clone(rbac), authorizers.to_vec())),
    ]
}

/// Whether this is about a pod itself, not one of its subresources.
fn is_pod(request: &AdmissionRequest<'_>, operations: &[Operation]) -> bool {
    let what = request.attributes;
    what.api_group.is_empty()
        && what.resource == "pods"
        && what.subresource.is_empty()
        && operations.contains(&request.operation)
}

/// The name for messages: that of the object, or what its name is generated from.
fn display_name<'a>(request: &'a AdmissionRequest<'_>, object: Option<&'a Value>) -> &'a str {
    let from_object = |pointer| object.map_or("", |object| crate::authn::text(object, pointer));
    [request.attributes.name.as_str(), from_object("/metadata/name"), from_object("/metadata/generateName")]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}

/// The object's `spec`, made when it is missing.
fn spec(object: &mut Value) -> &mut Map<String, Value> {
    field_map(object, "spec")
}

/// An object-valued field, made (or made anew, when it is of another type) so that plugins can fill it in;
/// validation comes after them.
fn field_map<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    as_map(as_map(object).entry(field).or_insert_with(|| json!({})))
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was just made an object"),
    }
}

/// A list-valued field, made when it is missing or null.
fn field_list<'a>(map: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
    let value = map.entry(field).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("it was just made a list"),
    }
}

/// The elements of a list by pointer; none when it is not there.
fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}
