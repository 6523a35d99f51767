//! The taints that a node has because of its conditions.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cache::Node;

/// The taint of a node that says it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node that says nothing any more.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(super) const NO_SCHEDULE: &str = "NoSchedule";
pub(super) const NO_EXECUTE: &str = "NoExecute";

/// Which status of which condition gives which taint.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// Whether a taint is this controller's to set and remove.
fn managed(taint: &Taint) -> bool {
    match taint.effect.as_str() {
        NO_SCHEDULE => taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key),
        NO_EXECUTE => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    }
}

/// The NoExecute taint that the node's Ready condition calls for.
pub(super) fn evicting(node: &Node) -> Option<&'static str> {
    match node.condition("Ready")?.status.as_str() {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    }
}

/// Whether the node has a NoExecute taint of this controller's.
pub(super) fn evicted(node: &Node) -> bool {
    node.spec.taints.iter().any(|t| t.effect == NO_EXECUTE && managed(t))
}

/// The taints that the node has to have, `evict` being the NoExecute taint allowed now; taints of others stay, and
/// those that are right keep the time at which they were added.
pub(super) fn wanted(node: &Node, evict: Option<&str>, now: Timestamp) -> Vec<Taint> {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for (type_, status, key) in BY_CONDITION {
        if node.condition(type_).is_some_and(|c| c.status == status) {
            keys.push((key, NO_SCHEDULE));
        }
    }
    if node.spec.unschedulable {
        keys.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    keys.extend(evict.map(|key| (key, NO_EXECUTE)));
    // A node that never said anything keeps what it was created with.
    if node.condition("Ready").is_none() {
        let unready = |t: &&Taint| t.key == NOT_READY && managed(t);
        keys.extend(node.spec.taints.iter().filter(unready).map(|t| (NOT_READY, t.effect.as_str())));
    }
    let mut taints: Vec<Taint> = Vec::new();
    for taint in &node.spec.taints {
        let right = keys.iter().any(|(key, effect)| *key == taint.key && *effect == taint.effect);
        if !managed(taint) || right {
            taints.push(taint.clone());
        }
    }
    for (key, effect) in keys {
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    taints
}
