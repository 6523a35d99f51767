//! What is valid in a pod and most likely not meant.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{list, number, text};
use crate::status::FieldPath;

/// Labels of nodes that have newer names.
const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
];

/// Warnings about a pod's spec at `path`.
pub(crate) fn pod_warnings(spec: &PodSpec, path: &FieldPath, warnings: &mut Vec<String>) {
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some((old, new)) = OLD_LABELS.iter().find(|(old, _)| old == key) {
            let at = path.child("nodeSelector").key(old);
            warnings.push(format!("{at}: deprecated since v1.14; use \"{new}\" instead"));
        }
    }
    let lists = [("initContainers", list(&spec.init_containers)), ("containers", spec.containers.as_slice())];
    for (field, containers) in lists {
        let at = path.child(field);
        for (index, found) in containers.iter().enumerate() {
            container(found, &at.index(index), warnings);
        }
    }
    let secrets = path.child("imagePullSecrets");
    for (index, _) in list(&spec.image_pull_secrets).iter().enumerate().filter(|(_, s)| s.name.is_empty()) {
        let at = secrets.index(index).child("name");
        warnings.push(format!("{at}: invalid empty name \"\""));
    }
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let at = path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
}

fn container(container: &Container, path: &FieldPath, warnings: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    let env = path.child("env");
    for (index, variable) in list(&container.env).iter().enumerate() {
        if !names.insert(&variable.name) {
            let at = env.index(index);
            warnings.push(format!(
                "{at}: hides previous definition of \"{}\", which may be dropped when using apply",
                variable.name
            ));
        }
    }
    let ports_at = path.child("ports");
    let mut places = HashMap::new();
    for (index, port) in list(&container.ports).iter().enumerate() {
        let same = (port.container_port, text(&port.protocol), port.host_port, &port.host_ip);
        let first = *places.entry(same).or_insert(index);
        if first != index {
            warnings.push(format!(
                "{}: duplicate port definition with {}",
                ports_at.index(index),
                ports_at.index(first)
            ));
        }
    }
    let Some(resources) = &container.resources else { return };
    for (field, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        for name in ["memory", "ephemeral-storage"] {
            let Some(amount) = amounts.as_ref().and_then(|a| a.get(name)) else { continue };
            if !number(amount).is_whole() {
                let at = path.child("resources").child(field).key(name);
                warnings.push(format!(
                    "{at}: fractional byte value \"{}\" is invalid, must be an integer",
                    amount.0
                ));
            }
        }
    }
}
