//! What changes and judges objects on their way in: one small file for each plugin, and the order they run in.

pub(crate) mod annotations;
pub(crate) mod auto_provision;
mod certificate_request;
mod chosen;
mod config;
mod default_class;
mod default_tolerations;
mod image_policy;
mod limit_ranger;
pub mod matching;
mod mountable_secrets;
mod namespace_lifecycle;
mod node_restriction;
pub(crate) mod optional;
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

pub use certificate_request::{CertificateChecks, CertificateRequest};
pub use chosen::{ChoiceError, Chosen, Steps};
pub use config::{AdmissionConfig, AdmissionConfigError, read_config};
pub use default_class::DefaultIngressClass;
pub use default_tolerations::DefaultTolerationSeconds;
pub use image_policy::{ImagePolicy, ImagePolicyWebhook};
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

/// The plugins that are on by default, in the order they run, which is upstream's: a pod for a namespace that is going
/// is refused before anything is looked up for it, and what a node may do is judged before its object is completed.
/// Quotas come last of all: they are charged with the write itself, see [`crate::ApiServer`].
pub fn plugins(
    objects: &Arc<dyn Objects>,
    rbac: &Arc<Rbac>,
    authorizers: &[Arc<dyn Authorizer>],
) -> Vec<Arc<dyn Admission>> {
    let parts = Parts { objects, authorizers, config: &AdmissionConfig::default(), images: None };
    parts.list(rbac, &Chosen::default())
}

/// Those that are chosen, as they are configured; refused when one cannot run so.
pub fn plugins_with(
    objects: &Arc<dyn Objects>,
    rbac: &Arc<Rbac>,
    authorizers: &[Arc<dyn Authorizer>],
    config: &AdmissionConfig,
    chosen: &Chosen,
) -> Result<Vec<Arc<dyn Admission>>, AdmissionConfigError> {
    let images = config.prepare(chosen)?;
    Ok(Parts { objects, authorizers, config, images: images.map(Arc::new) }.list(rbac, chosen))
}

impl AdmissionConfig {
    /// Refuses plugins that cannot run so, before there is anything that they could judge.
    pub fn check(&self, chosen: &Chosen) -> Result<(), AdmissionConfigError> {
        self.prepare(chosen).map(drop)
    }

    fn prepare(&self, chosen: &Chosen) -> Result<Option<ImagePolicyWebhook>, AdmissionConfigError> {
        chosen.check(|name| match name {
            "ImagePolicyWebhook" => self.image_policy.is_some(),
            _ => self.event_limits.is_some(),
        })?;
        let policy = self.image_policy.as_ref().filter(|_| chosen.runs("ImagePolicyWebhook"));
        let images = policy.map(|policy| ImagePolicyWebhook::new(policy.clone())).transpose();
        images.map_err(|why| AdmissionConfigError::Wrong { plugin: "ImagePolicyWebhook".into(), why })
    }
}

/// What plugins are made of.
struct Parts<'a> {
    objects: &'a Arc<dyn Objects>,
    authorizers: &'a [Arc<dyn Authorizer>],
    config: &'a AdmissionConfig,
    images: Option<Arc<ImagePolicyWebhook>>,
}

impl Parts<'_> {
    fn list(&self, rbac: &Arc<Rbac>, chosen: &Chosen) -> Vec<Arc<dyn Admission>> {
        let chosen_ones = chosen::ALL.iter().filter(|(name, _)| chosen.runs(name));
        let mut all: Vec<Arc<dyn Admission>> =
            chosen_ones.filter_map(|(name, _)| self.plugin(name)).collect();
        // What is no plugin upstream cannot be turned off: who asks for a certificate, and that nobody grants more
        // than he has.
        let checks = CertificateChecks {
            approval: chosen.runs("CertificateApproval"),
            signing: chosen.runs("CertificateSigning"),
            subject: chosen.runs("CertificateSubjectRestriction"),
        };
        all.push(Arc::new(CertificateRequest::new(self.authorizers.to_vec()).with(checks)));
        all.push(Arc::new(Escalation::new(Arc::clone(rbac), self.authorizers.to_vec())));
        all
    }

    /// The plugin of that name; `None` for those that are steps of their own, or have nothing to do here.
    fn plugin(&self, name: &str) -> Option<Arc<dyn Admission>> {
        let objects = || Arc::clone(self.objects);
        let authorizers = || self.authorizers.to_vec();
        Some(match name {
            "AlwaysAdmit" => Arc::new(optional::AlwaysAdmit),
            "NamespaceLifecycle" => Arc::new(NamespaceLifecycle::new(objects())),
            "NamespaceExists" => Arc::new(optional::NamespaceExists::new(objects())),
            "LimitPodHardAntiAffinityTopology" => Arc::new(optional::LimitPodHardAntiAffinityTopology),
            "LimitRanger" => Arc::new(LimitRanger::new(objects())),
            "ServiceAccount" => Arc::new(ServiceAccount::new(objects())),
            "NodeRestriction" => Arc::new(NodeRestriction::new(objects(), authorizers())),
            "TaintNodesByCondition" => Arc::new(TaintNodesByCondition),
            "AlwaysPullImages" => Arc::new(optional::AlwaysPullImages),
            "ImagePolicyWebhook" => self.images.clone()?,
            "PodSecurity" => Arc::new(PodSecurity::new(objects(), self.config.pod_security.clone())),
            "PodNodeSelector" => {
                Arc::new(optional::PodNodeSelector::new(objects(), self.config.node_selectors.clone()))
            }
            "Priority" => Arc::new(Priority::new(objects())),
            "DefaultTolerationSeconds" => Arc::new(DefaultTolerationSeconds),
            "PodTolerationRestriction" => {
                Arc::new(optional::PodTolerationRestriction::new(objects(), self.config.tolerations.clone()))
            }
            "EventRateLimit" => Arc::new(optional::EventRateLimit::new(self.config.event_limits.clone()?)),
            "ExtendedResourceToleration" => Arc::new(optional::ExtendedResourceToleration),
            "DefaultStorageClass" => Arc::new(DefaultStorageClass::new(objects())),
            "StorageObjectInUseProtection" => Arc::new(StorageObjectInUseProtection),
            "OwnerReferencesPermissionEnforcement" => {
                Arc::new(optional::OwnerReferencesPermissionEnforcement::new(objects(), authorizers()))
            }
            "PersistentVolumeClaimResize" => Arc::new(PersistentVolumeClaimResize::new(objects())),
            "RuntimeClass" => Arc::new(RuntimeClass::new(objects())),
            "DefaultIngressClass" => Arc::new(DefaultIngressClass::new(objects())),
            "DenyServiceExternalIPs" => Arc::new(optional::DenyServiceExternalIPs),
            "PodTopologyLabels" => Arc::new(optional::PodTopologyLabels::new(objects())),
            "AlwaysDeny" => Arc::new(optional::AlwaysDeny),
            _ => return None,
        })
    }
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
