//! NodeRestriction: what RBAC allows all nodes is narrowed to what concerns the node that asks.
//!
//! A node may change its own Node object and lease, the status of pods bound to it, delete and evict these, and
//! get tokens for them. It cannot label itself into a place that policy reserves, nor take off its taints.

use std::sync::Arc;

use serde_json::Value;

use super::service_account::is_mirror;
use super::{display_name, list};
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Operation, UserInfo};

const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
/// Labels below this are the administrator's, to keep pods off nodes that he does not trust.
const RESERVED_LABELS: &str = "node-restriction.kubernetes.io";
/// Of the labels that belong to Kubernetes a node may set these on itself, and all below the last two.
const OWN_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];
const OWN_LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Leases of nodes live here, each named after its node.
const LEASES: &str = "kube-node-lease";

/// The plugin.
pub struct NodeRestriction {
    objects: Arc<dyn Objects>,
}

/// A refusal's words.
type Verdict = Result<(), String>;

impl NodeRestriction {
    /// Looks pods up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn judge(
        &self,
        node: &str,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Verdict, ApiError> {
        let what = request.attributes;
        let resource = (what.api_group.as_str(), what.resource.as_str(), what.subresource.as_str());
        Ok(match resource {
            ("", "pods", "") => judge_pod(node, request, object),
            ("", "pods", "status") => own_pod(node, request.old, "status of pods"),
            ("", "pods", "eviction") => {
                let pod = self.objects.get("", "pods", &what.namespace, &what.name).await?;
                own_pod(node, pod.as_deref(), "evictions of pods")
            }
            ("", "pods", other) if request.operation != Operation::Connect => Err(format!(
                "unexpected pod subresource {other:?}, only \"status\" and \"eviction\" are allowed"
            )),
            ("", "nodes", _) => judge_node(node, request, object),
            ("", "serviceaccounts", "token") => self.judge_token(node, &what.namespace, object).await?,
            ("coordination.k8s.io", "leases", _) => judge_lease(node, request, object),
            ("storage.k8s.io", "csinodes", _) => own_name(node, display_name(request, object), "CSINode"),
            _ => Ok(()),
        })
    }

    /// A token is given out only for a pod that runs on the node.
    async fn judge_token(
        &self,
        node: &str,
        namespace: &str,
        request: Option<&Value>,
    ) -> Result<Verdict, ApiError> {
        let bound = request.and_then(|request| request.pointer("/spec/boundObjectRef"));
        let Some(bound) = bound.filter(|bound| text(bound, "/kind") == "Pod") else {
            return Ok(Err("node requested token not bound to a pod".into()));
        };
        if text(bound, "/uid").is_empty() {
            return Ok(Err("node requested token with a pod binding without a uid".into()));
        }
        let pod = self.objects.get("", "pods", namespace, text(bound, "/name")).await?;
        let bound_here = pod.is_some_and(|pod| {
            text(&pod, "/spec/nodeName") == node && text(&pod, "/metadata/uid") == text(bound, "/uid")
        });
        Ok(if bound_here {
            Ok(())
        } else {
            Err("node requested token bound to a pod scheduled on a different node".into())
        })
    }
}

#[async_trait::async_trait]
impl Admission for NodeRestriction {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        let Some(node) = node_name(&what.user) else { return Ok(Vec::new()) };
        let refuse = |why: &str| {
            ApiError::forbidden(&what.api_group, &what.resource, display_name(request, object), why)
        };
        if node.is_empty() {
            return Err(refuse(&format!("could not determine node from user {:?}", what.user.name)));
        }
        match self.judge(node, request, object).await? {
            Ok(()) => Ok(Vec::new()),
            Err(why) => Err(refuse(&why)),
        }
    }
}

/// The node behind a user; `None` when it is none, empty when it claims to be one and does not say which.
fn node_name(user: &UserInfo) -> Option<&str> {
    user.in_group(GROUP).then(|| user.name.strip_prefix(PREFIX).unwrap_or_default())
}

fn judge_pod(node: &str, request: &AdmissionRequest<'_>, pod: Option<&Value>) -> Verdict {
    match request.operation {
        Operation::Create => {
            let Some(pod) = pod.filter(|pod| is_mirror(pod)) else {
                return Err(format!(
                    "pod does not have {:?} annotation, node {node:?} can only create mirror pods",
                    super::service_account::MIRROR_ANNOTATION
                ));
            };
            own_pod(node, Some(pod), "pods")
        }
        Operation::Delete => own_pod(node, request.old, "pods"),
        Operation::Update => Err(format!("node {node:?} can not change pods, only their status")),
        Operation::Connect => Ok(()),
    }
}

fn own_pod(node: &str, pod: Option<&Value>, what: &str) -> Verdict {
    // A pod that is gone is for others to report.
    let Some(pod) = pod else { return Ok(()) };
    if text(pod, "/spec/nodeName") == node {
        return Ok(());
    }
    Err(format!("node {node:?} can only touch {what} with spec.nodeName set to itself"))
}

fn judge_node(node: &str, request: &AdmissionRequest<'_>, object: Option<&Value>) -> Verdict {
    own_name(node, display_name(request, object), "node")?;
    let Some(object) = object else { return Ok(()) };
    let empty = Value::Null;
    let old = request.old.unwrap_or(&empty);
    if request.operation == Operation::Update && taints(object) != taints(old) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    let forbidden: Vec<String> = changed_labels(object, old).filter(|label| !own_label(label)).collect();
    if forbidden.is_empty() {
        return Ok(());
    }
    Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")))
}

fn judge_lease(node: &str, request: &AdmissionRequest<'_>, lease: Option<&Value>) -> Verdict {
    if request.attributes.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    own_name(node, display_name(request, lease), "lease")
}

fn own_name(node: &str, name: &str, what: &str) -> Verdict {
    if name == node {
        return Ok(());
    }
    Err(format!("node {node:?} is not allowed to modify {what} {name:?}"))
}

fn taints(node: &Value) -> Vec<&Value> {
    list(node, "/spec/taints").collect()
}

/// The labels that differ, in order.
fn changed_labels<'a>(new: &'a Value, old: &'a Value) -> impl Iterator<Item = String> + 'a {
    let labels = |node: &'a Value| node.pointer("/metadata/labels").and_then(Value::as_object);
    let of = move |node: &'a Value, name: &str| labels(node).and_then(|labels| labels.get(name));
    let mut names: Vec<&String> =
        [new, old].into_iter().filter_map(labels).flat_map(|labels| labels.keys()).collect();
    names.sort();
    names.dedup();
    names.into_iter().filter(move |name| of(new, name) != of(old, name)).cloned()
}

/// Whether a node may set a label on itself: its own ones, and all that are not Kubernetes'.
fn own_label(label: &str) -> bool {
    let within = |domain: &str, of: &str| {
        domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'))
    };
    let Some((domain, _)) = label.split_once('/') else { return true };
    if within(domain, RESERVED_LABELS) {
        return false;
    }
    if !within(domain, "kubernetes.io") && !within(domain, "k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&label) || OWN_LABEL_DOMAINS.into_iter().any(|own| within(domain, own))
}
