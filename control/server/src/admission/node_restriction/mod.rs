//! NodeRestriction: what RBAC allows all nodes is narrowed to what concerns the node that asks.
//!
//! A node may change its own Node object and lease, the status of pods bound to it, delete and evict these, and
//! get tokens for them. It cannot label itself into a place that policy reserves, nor take off its taints, nor make
//! pods that lead it to Secrets. Rules and words are upstream's.

mod node;
mod pods;
mod token;

use std::sync::Arc;

use serde_json::Value;

use super::{certificate_request, display_name};
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Authorizer, Operation, UserInfo};

const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
/// The signers whose certificates make a node.
const NODE_SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
/// Leases of nodes live here, each named after its node.
const LEASES: &str = "kube-node-lease";

/// The plugin.
pub struct NodeRestriction {
    objects: Arc<dyn Objects>,
    authorizers: Vec<Arc<dyn Authorizer>>,
}

/// A refusal's words.
type Verdict = Result<(), String>;

impl NodeRestriction {
    /// Looks pods up in `objects`; `authorizers` say which audiences a node may name beyond those of its pods.
    pub fn new(objects: Arc<dyn Objects>, authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self { objects, authorizers }
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
            ("", "pods", "") => pods::judge(&*self.objects, node, request, object).await?,
            ("", "pods", "status") => pods::judge_status(node, request, object),
            ("", "pods", "eviction") => {
                let pod = self.objects.get("", "pods", &what.namespace, &what.name).await?;
                pods::own(node, pod.as_deref(), "evict pods")
            }
            ("", "pods", other) => {
                Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
            }
            ("", "nodes", _) => node::judge(node, request, object),
            ("", "persistentvolumeclaims", "status") => pods::judge_claim_status(node, request, object),
            ("", "persistentvolumeclaims", _) => Err("may only update PVC status".into()),
            ("", "serviceaccounts", "token") => self.judge_token(node, request, object).await?,
            ("coordination.k8s.io", "leases", _) => judge_lease(node, request, object),
            ("storage.k8s.io", "csinodes", _) => own_name(
                node,
                display_name(request, object),
                "can only access CSINode with the same name as the requesting node",
            ),
            ("resource.k8s.io", "resourceslices", _) => judge_slice(node, request, object),
            ("certificates.k8s.io", "certificatesigningrequests", "") => {
                judge_certificate(node, request, object)
            }
            _ => Ok(()),
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

/// A lease is that of the node itself.
fn judge_lease(node: &str, request: &AdmissionRequest<'_>, lease: Option<&Value>) -> Verdict {
    if request.attributes.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    own_name(
        node,
        display_name(request, lease),
        "can only access node lease with the same name as the requesting node",
    )
}

/// What the authorizer cannot see: the node of a slice that is made, and of each one that a collection loses.
fn judge_slice(node: &str, request: &AdmissionRequest<'_>, slice: Option<&Value>) -> Verdict {
    let (of, verb) = match request.operation {
        Operation::Create => (slice, "create"),
        Operation::Delete => (request.old, "delete"),
        _ => return Ok(()),
    };
    own_name(
        node,
        of.map_or("", |slice| text(slice, "/spec/nodeName")),
        &format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"),
    )
}

/// A node asks for certificates of nodes in its own name alone.
fn judge_certificate(node: &str, request: &AdmissionRequest<'_>, object: Option<&Value>) -> Verdict {
    let Some(object) = object.filter(|_| request.operation == Operation::Create) else { return Ok(()) };
    if !NODE_SIGNERS.contains(&text(object, "/spec/signerName")) {
        return Ok(());
    }
    let own = format!("{PREFIX}{node}");
    let name = certificate_request::common_name(object)
        .ok_or("unable to parse csr: spec.request is no PEM of a certificate request")?;
    own_name(&own, &name, &format!("can only create a node CSR with CN={own}"))
}

fn own_name(node: &str, name: &str, otherwise: &str) -> Verdict {
    if name == node { Ok(()) } else { Err(otherwise.to_owned()) }
}
