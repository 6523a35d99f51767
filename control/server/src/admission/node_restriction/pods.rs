//! What a node may do with pods and with the claims of their volumes.

use serde_json::Value;

use super::super::list;
use super::super::service_account::{MIRROR_ANNOTATION, is_mirror};
use super::Verdict;
use crate::authn::{Objects, text};
use crate::authz::{Referred, referred};
use crate::{AdmissionRequest, ApiError, Operation};

/// What a pod that a node makes may not lead to, in upstream's words and order.
const FORBIDDEN: &[(Referred, &str)] = &[
    (Referred::ServiceAccount, "a service account"),
    (Referred::Secret, "secrets"),
    (Referred::ConfigMap, "configmaps"),
    (Referred::Claim, "persistentvolumeclaims"),
    (Referred::ResourceClaim, "resourceclaims"),
];
/// What a node finds out about a claim; all else of the object stays as it is.
const CLAIM_FINDINGS: &[&str] =
    &["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"];

/// Judges a write of a pod.
pub(super) async fn judge(
    objects: &dyn Objects,
    node: &str,
    request: &AdmissionRequest<'_>,
    pod: Option<&Value>,
) -> Result<Verdict, ApiError> {
    match (request.operation, pod) {
        (Operation::Create, Some(pod)) => {
            let found = objects.get("", "nodes", "", node).await?;
            Ok(judge_new(node, pod, found.as_deref()))
        }
        (Operation::Delete, _) => Ok(own(node, request.old, "delete pods")),
        (operation, _) => Ok(Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            format!("{operation:?}").to_uppercase()
        ))),
    }
}

/// A node makes mirrors of pods that run on it already, and nothing else: a pod that named a Secret would open that
/// Secret to the node.
fn judge_new(node: &str, pod: &Value, found: Option<&Value>) -> Verdict {
    if !is_mirror(pod) {
        return Err(format!(
            "pod does not have {MIRROR_ANNOTATION:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    own(node, Some(pod), "create pods")?;
    judge_owner(node, pod, found)?;
    let references = referred(pod);
    for (kind, words) in FORBIDDEN {
        if references.contains(kind) {
            return Err(format!("node {node:?} can not create pods that reference {words}"));
        }
    }
    let bundles = |volume: &Value| {
        list(volume, "/projected/sources").any(|source| source.get("clusterTrustBundle").is_some())
    };
    if list(pod, "/spec/volumes").any(bundles) {
        return Err(format!("node {node:?} can not create pods that reference clustertrustbundles"));
    }
    Ok(())
}

/// The one owner of a mirror pod is the node, so that it goes with the node.
fn judge_owner(node: &str, pod: &Value, found: Option<&Value>) -> Verdict {
    let refuse = |why: &str| Err(format!("node {node:?} can only create pods with {why}"));
    let mut owners = list(pod, "/metadata/ownerReferences");
    let (owner, more) = (owners.next(), owners.next());
    if more.is_some() {
        return refuse("a single owner reference set to itself");
    }
    let is_node = |owner: &&Value| {
        text(owner, "/apiVersion") == "v1" && text(owner, "/kind") == "Node" && text(owner, "/name") == node
    };
    let Some(owner) = owner.filter(is_node) else {
        return refuse("an owner reference set to itself");
    };
    let flag = |name: &str| owner.get(name).and_then(Value::as_bool).unwrap_or(false);
    if !flag("controller") {
        return refuse("a controller owner reference set to itself");
    }
    if flag("blockOwnerDeletion") {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let (said, uid) = (text(owner, "/uid"), found.map_or("", |node| text(node, "/metadata/uid")));
    if found.is_none() {
        return Err(format!("error looking up node {node} to verify uid: node {node:?} not found"));
    }
    if said != uid {
        return Err(format!("node {node} UID mismatch: expected {said} got {uid}"));
    }
    Ok(())
}

/// Whether the pod is on the node. `what` is what it may do with its own alone.
pub(super) fn own(node: &str, pod: Option<&Value>, what: &str) -> Verdict {
    // A pod that is gone is for others to report.
    let Some(pod) = pod else { return Ok(()) };
    if text(pod, "/spec/nodeName") == node {
        return Ok(());
    }
    Err(format!("node {node:?} can only {what} with spec.nodeName set to itself"))
}

/// Judges a write of a pod's status: labels choose the pod's services and policies, and claims lead to devices.
pub(super) fn judge_status(node: &str, request: &AdmissionRequest<'_>, pod: Option<&Value>) -> Verdict {
    own(node, request.old, "update pod status for pods")?;
    let (Some(old), Some(new)) = (request.old, pod) else { return Ok(()) };
    for (pointer, words) in [
        ("/metadata/labels", "update labels through pod status"),
        ("/status/resourceClaimStatuses", "update resource claim statues"),
        ("/status/extendedResourceClaimStatus", "update extended resource claim status"),
    ] {
        if said(old, pointer) != said(new, pointer) {
            return Err(format!("node {node:?} cannot {words}"));
        }
    }
    Ok(())
}

/// A value that says something: nothing, null and an empty one are the same.
fn said<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    })
}

/// Judges a write of a claim's status.
pub(super) fn judge_claim_status(
    node: &str,
    request: &AdmissionRequest<'_>,
    claim: Option<&Value>,
) -> Verdict {
    let (Some(old), Some(new)) = (request.old, claim) else { return Ok(()) };
    if without_findings(old) == without_findings(new) {
        return Ok(());
    }
    Err(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    ))
}

fn without_findings(claim: &Value) -> Value {
    let mut rest = claim.clone();
    let mut drop = |pointer: &str, fields: &[&str]| {
        if let Some(map) = rest.pointer_mut(pointer).and_then(Value::as_object_mut) {
            map.retain(|name, _| !fields.contains(&name.as_str()));
        }
    };
    drop("/metadata", &["resourceVersion", "managedFields"]);
    drop("/status", CLAIM_FINDINGS);
    rest
}
