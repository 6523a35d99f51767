//! What may be changed in a pod that is there.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};

use super::{Errors, list, shown};
use crate::meta::same;
use crate::status::{FieldError, FieldPath};

const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A change of a pod's spec, beyond what makes any pod valid.
pub(crate) fn pod_update(new: &Pod, old: &Pod, errors: &mut Errors) {
    let path = FieldPath::root("spec");
    let empty = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    if new.containers.len() != old.containers.len() {
        let why = "pod updates may not add or remove containers";
        errors.push(FieldError::forbidden(&path.child("containers"), why));
        return;
    }
    if list(&new.init_containers).len() != list(&old.init_containers).len() {
        let why = "pod updates may not add or remove containers";
        errors.push(FieldError::forbidden(&path.child("initContainers"), why));
        return;
    }
    deadline(new, old, &path, errors);
    tolerations(list(&new.tolerations), list(&old.tolerations), &path.child("tolerations"), errors);
    gates(new, old, &path, errors);
    if let Some(difference) = forbidden_change(new, old) {
        errors.push(FieldError::forbidden(&path, format!("{CHANGEABLE}\n{difference}")));
    }
}

fn deadline(new: &PodSpec, old: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => {
            errors.push(FieldError::invalid(&at, new, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&at, serde_json::Value::Null, why));
        }
        _ => {}
    }
}

/// Tolerations may be added, and the seconds of one that is there may change.
fn tolerations(new: &[Toleration], old: &[Toleration], path: &FieldPath, errors: &mut Errors) {
    let alike = |a: &Toleration, b: &Toleration| {
        a.key == b.key && a.operator == b.operator && a.value == b.value && a.effect == b.effect
    };
    if !old.iter().all(|old| new.iter().any(|new| alike(new, old))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path, why));
    }
}

/// Gates may only go.
fn gates(new: &PodSpec, old: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    for (index, gate) in list(&new.scheduling_gates).iter().enumerate() {
        if !list(&old.scheduling_gates).contains(gate) {
            let at = path.child("schedulingGates").index(index);
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.push(FieldError::forbidden(&at, why));
        }
    }
}

/// What differs apart from the fields that may: the lines that went and came, for people.
fn forbidden_change(new: &PodSpec, old: &PodSpec) -> Option<String> {
    let mut munged = new.clone();
    copy_images(&mut munged.containers, &old.containers);
    if let (Some(new), Some(old)) = (&mut munged.init_containers, &old.init_containers) {
        copy_images(new, old);
    }
    munged.active_deadline_seconds = old.active_deadline_seconds;
    munged.tolerations.clone_from(&old.tolerations);
    munged.scheduling_gates.clone_from(&old.scheduling_gates);
    // A pod that waits at a gate may still be told where to run, in narrower terms.
    if !list(&old.scheduling_gates).is_empty() {
        munged.node_selector.clone_from(&old.node_selector);
        munged.affinity.clone_from(&old.affinity);
    }
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        munged.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    let (new, old) = (shown(&munged), shown(old));
    if same(Some(&new), Some(&old)) {
        return None;
    }
    let mut lines = Vec::new();
    let fields = |value: &serde_json::Value| value.as_object().cloned().unwrap_or_default();
    let (new, old) = (fields(&new), fields(&old));
    for name in old.keys().chain(new.keys().filter(|n| !old.contains_key(*n))) {
        let (was, is) = (old.get(name), new.get(name));
        if !same(was, is) {
            lines.extend(was.map(|was| format!("- \"{name}\": {was}")));
            lines.extend(is.map(|is| format!("+ \"{name}\": {is}")));
        }
    }
    Some(lines.join("\n"))
}

fn copy_images(new: &mut [Container], old: &[Container]) {
    for (new, old) in new.iter_mut().zip(old) {
        new.image.clone_from(&old.image);
    }
}
