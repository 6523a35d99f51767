//! What a node may change of its own Node object.

use serde_json::Value;

use super::super::{display_name, list};
use super::{Verdict, own_name};
use crate::{AdmissionRequest, Operation};

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

/// Judges a write of a Node.
pub(super) fn judge(node: &str, request: &AdmissionRequest<'_>, object: Option<&Value>) -> Verdict {
    let name = display_name(request, object);
    own_name(node, name, &format!("node {node:?} is not allowed to modify node {name:?}"))?;
    let Some(object) = object else { return Ok(()) };
    let empty = Value::Null;
    let old = request.old.unwrap_or(&empty);
    let updates = request.operation == Operation::Update;
    if updates && taints(object) != taints(old) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    // An owner that does not exist would have the garbage collector delete the node, and its taints with it.
    if updates && owners(object) != owners(old) {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    match (source(object), updates) {
        (Some(_), false) => {
            return Err(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
        }
        (Some(new), true) if source(old) != Some(new) => {
            return Err(format!(
                "node {node:?} is not allowed to update configSource to a new non-nil configSource"
            ));
        }
        _ => {}
    }
    let forbidden: Vec<String> = changed_labels(object, old).filter(|label| !own_label(label)).collect();
    match (forbidden.is_empty(), updates) {
        (true, _) => Ok(()),
        (false, true) => Err(format!("is not allowed to modify labels: {}", forbidden.join(", "))),
        (false, false) => {
            Err(format!("node {node:?} is not allowed to set the following labels: {}", forbidden.join(", ")))
        }
    }
}

fn source(node: &Value) -> Option<&Value> {
    node.pointer("/spec/configSource").filter(|source| !source.is_null())
}

fn owners(node: &Value) -> Vec<&Value> {
    list(node, "/metadata/ownerReferences").collect()
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
