//! What may be changed in a pod that is there.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{Affinity, Container, NodeSelectorTerm, Pod, PodSpec, Toleration};

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
    narrower(new, old, &path, errors);
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
    let [old, new] = [old, new].map(|all| -> HashSet<_> {
        all.iter().map(|one| (&one.key, &one.operator, &one.value, &one.effect)).collect()
    });
    if !old.is_subset(&new) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path, why));
    }
}

/// Gates may only go.
fn gates(new: &PodSpec, old: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    let old: HashSet<&String> = list(&old.scheduling_gates).iter().map(|gate| &gate.name).collect();
    for (index, gate) in list(&new.scheduling_gates).iter().enumerate() {
        if !old.contains(&gate.name) {
            let at = path.child("schedulingGates").index(index).child("name");
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.push(FieldError::forbidden(&at, why));
        }
    }
}

/// A pod that waits at a gate may still be told where to run, in narrower terms.
fn narrower(new: &PodSpec, old: &PodSpec, path: &FieldPath, errors: &mut Errors) {
    if list(&old.scheduling_gates).is_empty() {
        return;
    }
    let empty = BTreeMap::new();
    let labels = |spec: &PodSpec| spec.node_selector.clone().unwrap_or_default();
    let wanted = new.node_selector.as_ref().unwrap_or(&empty);
    if labels(old).iter().any(|(key, value)| wanted.get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(&path.child("nodeSelector"), shown(wanted), why));
    }
    let (new_terms, old_terms) = (required_terms(new), required_terms(old));
    if old_terms.is_empty() {
        return;
    }
    let at = path.child("affinity").child("nodeAffinity");
    let at = at.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
    if new_terms.len() != old_terms.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&at, shown(&new_terms), why));
        return;
    }
    for (index, (new, old)) in new_terms.iter().zip(old_terms).enumerate() {
        if !only_adds(new, old) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&at.index(index), shown(new), why));
        }
    }
}

fn required_terms(spec: &PodSpec) -> &[NodeSelectorTerm] {
    let nodes = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = nodes.and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    required.map(|selector| selector.node_selector_terms.as_slice()).unwrap_or_default()
}

/// Whether a term asks for what it asked for before, and maybe for more. One that asked for nothing matched nothing.
fn only_adds(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let lists = [
        (list(&new.match_expressions), list(&old.match_expressions)),
        (list(&new.match_fields), list(&old.match_fields)),
    ];
    let asked = lists.iter().any(|(_, old)| !old.is_empty());
    let asks = lists.iter().any(|(new, _)| !new.is_empty());
    (asked || !asks) && lists.iter().all(|(new, old)| new.starts_with(old))
}

/// What differs apart from the fields that may: the lines that went and came, for people.
fn forbidden_change(new: &PodSpec, old: &PodSpec) -> Option<String> {
    if new == old {
        return None;
    }
    let mut munged = new.clone();
    copy_images(&mut munged.containers, &old.containers);
    if let (Some(new), Some(old)) = (&mut munged.init_containers, &old.init_containers) {
        copy_images(new, old);
    }
    munged.active_deadline_seconds = old.active_deadline_seconds;
    munged.tolerations.clone_from(&old.tolerations);
    munged.scheduling_gates.clone_from(&old.scheduling_gates);
    // See `narrower`.
    if !list(&old.scheduling_gates).is_empty() {
        munged.node_selector.clone_from(&old.node_selector);
        keep_node_affinity(&mut munged, old);
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

/// Takes the affinity to nodes, and nothing else of affinities, from `old`.
fn keep_node_affinity(spec: &mut PodSpec, old: &PodSpec) {
    let kept = old.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    let affinity = spec.affinity.get_or_insert_default();
    affinity.node_affinity = kept;
    if *affinity == Affinity::default() && old.affinity.is_none() {
        spec.affinity = None;
    }
}

fn copy_images(new: &mut [Container], old: &[Container]) {
    for (new, old) in new.iter_mut().zip(old) {
        new.image.clone_from(&old.image);
    }
}
