//! Containers that are added to a running pod for debugging.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec, ResourceRequirements};

use super::container::{self, Pod};
use super::{Errors, list, text};
use crate::status::{FieldError, FieldPath};

const NOT_HERE: &str = "cannot be set for an Ephemeral Container";

/// All of them at `path`.
pub(super) fn all(pod: &Pod<'_>, path: &FieldPath, errors: &mut Errors) {
    let containers = list(&pod.spec.ephemeral_containers);
    let others = others(pod.spec);
    let mut seen = HashSet::new();
    for (index, found) in containers.iter().enumerate() {
        let at = path.index(index);
        let plain = plain(found);
        container::common(&plain, pod, &at, errors);
        container::image_is_trimmed(&plain, &at, errors);
        if others.contains(found.name.as_str()) || !seen.insert(&found.name) {
            errors.push(FieldError::duplicate(&at.child("name"), found.name.as_str()));
        }
        let target = text(&found.target_container_name);
        if !target.is_empty() && !others.contains(target) {
            errors.push(FieldError::not_found(&at.child("targetContainerName"), target));
        }
        forbidden(found, &at, errors);
    }
}

/// The names of ordinary and of init containers.
fn others(spec: &PodSpec) -> HashSet<&str> {
    spec.containers
        .iter()
        .chain(list(&spec.init_containers))
        .map(|container| container.name.as_str())
        .collect()
}

/// The same as a container of the other kinds, for what is true of all.
fn plain(found: &EphemeralContainer) -> Container {
    Container {
        name: found.name.clone(),
        image: found.image.clone(),
        image_pull_policy: found.image_pull_policy.clone(),
        termination_message_policy: found.termination_message_policy.clone(),
        ports: found.ports.clone(),
        env: found.env.clone(),
        env_from: found.env_from.clone(),
        volume_mounts: found.volume_mounts.clone(),
        volume_devices: found.volume_devices.clone(),
        resources: found.resources.clone(),
        resize_policy: found.resize_policy.clone(),
        security_context: found.security_context.clone(),
        ..Container::default()
    }
}

/// What it may not have, since a pod's service may not rest on it.
fn forbidden(found: &EphemeralContainer, path: &FieldPath, errors: &mut Errors) {
    let empty = ResourceRequirements::default();
    let set = [
        ("ports", !list(&found.ports).is_empty()),
        ("resources", found.resources.as_ref().is_some_and(|r| !super::same(r, &empty))),
        ("resizePolicy", !list(&found.resize_policy).is_empty()),
        ("restartPolicy", found.restart_policy.is_some()),
        ("restartPolicyRules", !list(&found.restart_policy_rules).is_empty()),
        ("livenessProbe", found.liveness_probe.is_some()),
        ("readinessProbe", found.readiness_probe.is_some()),
        ("startupProbe", found.startup_probe.is_some()),
        ("lifecycle", found.lifecycle.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.push(FieldError::forbidden(&path.child(field), NOT_HERE));
    }
    let mounts = path.child("volumeMounts");
    for (index, mount) in list(&found.volume_mounts).iter().enumerate() {
        for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if !text(value).is_empty() {
                errors.push(FieldError::forbidden(&mounts.index(index).child(field), NOT_HERE));
            }
        }
    }
}
