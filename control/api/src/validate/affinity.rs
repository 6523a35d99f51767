//! Where a pod may run: node selection, affinity, tolerations and spreading.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, Toleration,
    TopologySpreadConstraint,
};

use super::{Errors, label_keys, label_selector, list, one_in_order, one_of, refuse, shown, text};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// What taints do, in the order in which upstream tells of it.
pub(crate) const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Affinity of all sorts at `path`.
pub(super) fn affinity(affinity: &Affinity, path: &FieldPath, errors: &mut Errors) {
    if let Some(nodes) = &affinity.node_affinity {
        let at = path.child("nodeAffinity");
        if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
            node_selector(required, &at.child("requiredDuringSchedulingIgnoredDuringExecution"), errors);
        }
        let preferred = at.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in
            list(&nodes.preferred_during_scheduling_ignored_during_execution).iter().enumerate()
        {
            let at = preferred.index(index);
            weight(term.weight, &at, errors);
            node_term(&term.preference, false, &at.child("preference"), errors);
        }
    }
    let pods = affinity.pod_affinity.as_ref().map(|a| {
        (
            "podAffinity",
            list(&a.required_during_scheduling_ignored_during_execution),
            list(&a.preferred_during_scheduling_ignored_during_execution),
        )
    });
    let apart = affinity.pod_anti_affinity.as_ref().map(|a| {
        (
            "podAntiAffinity",
            list(&a.required_during_scheduling_ignored_during_execution),
            list(&a.preferred_during_scheduling_ignored_during_execution),
        )
    });
    for (field, required, preferred) in pods.into_iter().chain(apart) {
        let at = path.child(field);
        let required_at = at.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in required.iter().enumerate() {
            pod_term(term, &required_at.index(index), errors);
        }
        let preferred_at = at.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in preferred.iter().enumerate() {
            let at = preferred_at.index(index);
            weight(term.weight, &at, errors);
            pod_term(&term.pod_affinity_term, &at.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(weight: i32, path: &FieldPath, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

pub(crate) fn node_selector(selector: &NodeSelector, path: &FieldPath, errors: &mut Errors) {
    let terms = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.push(FieldError::required(&terms, "must have at least one node selector term"));
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        node_term(term, true, &terms.index(index), errors);
    }
}

/// A term, whose values have to be such that labels have if nodes are `required` to match it.
fn node_term(term: &NodeSelectorTerm, required: bool, path: &FieldPath, errors: &mut Errors) {
    let expressions = path.child("matchExpressions");
    for (index, requirement) in list(&term.match_expressions).iter().enumerate() {
        let at = expressions.index(index);
        node_requirement(requirement, &at, errors);
        refuse(&at.child("key"), &requirement.key, names::qualified_name(&requirement.key), errors);
        let values = list(&requirement.values).iter().enumerate().filter(|_| required);
        for (index, value) in values {
            refuse(&at.child("values").index(index), value, names::label_value(value), errors);
        }
    }
    let fields = path.child("matchFields");
    for (index, requirement) in list(&term.match_fields).iter().enumerate() {
        node_field(requirement, &fields.index(index), errors);
    }
}

/// A requirement of a field: the name is the only one.
fn node_field(requirement: &NodeSelectorRequirement, path: &FieldPath, errors: &mut Errors) {
    let values = list(&requirement.values);
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(&at, why));
        }
        "In" | "NotIn" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
    if requirement.key != "metadata.name" {
        let key = requirement.key.as_str();
        errors.push(FieldError::invalid(&path.child("key"), key, "not a valid field selector key"));
        return;
    }
    for (index, value) in values.iter().enumerate() {
        refuse(&at.index(index), value, names::dns1123_subdomain(value), errors);
    }
}

fn node_requirement(requirement: &NodeSelectorRequirement, path: &FieldPath, errors: &mut Errors) {
    let count = list(&requirement.values).len();
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if count == 0 => {
            errors.push(FieldError::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&at, why));
        }
        "Gt" | "Lt" if count != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(&at, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"))
        }
    }
}

fn pod_term(term: &PodAffinityTerm, path: &FieldPath, errors: &mut Errors) {
    if let Some(selector) = &term.label_selector {
        label_selector(selector, &path.child("labelSelector"), errors);
    }
    if let Some(selector) = &term.namespace_selector {
        label_selector(selector, &path.child("namespaceSelector"), errors);
    }
    for name in list(&term.namespaces) {
        refuse(&path.child("namespace"), name, names::dns1123_label(name), errors);
    }
    let (same, other) = (list(&term.match_label_keys), list(&term.mismatch_label_keys));
    label_keys::label_keys(same, other, term.label_selector.as_ref(), path, errors);
    let at = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(&at, "can not be empty"));
    }
    refuse(&at, &term.topology_key, names::qualified_name(&term.topology_key), errors);
}

/// Tolerations at `path`.
pub(crate) fn tolerations(tolerations: &[Toleration], path: &FieldPath, errors: &mut Errors) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let at = path.index(index);
        let (key, operator, effect) =
            (text(&toleration.key), text(&toleration.operator), text(&toleration.effect));
        if !key.is_empty() {
            refuse(&at.child("key"), key, names::qualified_name(key), errors);
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&at.child("operator"), operator, why));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&at.child("effect"), effect, why));
        }
        match operator {
            "Equal" | "" => {
                let value = text(&toleration.value);
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(&at.child("operator"), value, wrong.join(";")));
                }
            }
            "Exists" if !text(&toleration.value).is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&at.child("operator"), shown(toleration), why));
            }
            "Exists" => {}
            other => {
                errors.push(FieldError::not_supported(&at.child("operator"), other, &["Equal", "Exists"]));
            }
        }
        if !effect.is_empty() {
            one_in_order(&at.child("effect"), effect, TAINT_EFFECTS, errors);
        }
    }
}

/// Spread constraints at `path`.
pub(super) fn spread(constraints: &[TopologySpreadConstraint], path: &FieldPath, errors: &mut Errors) {
    let mut left = HashMap::new();
    for constraint in constraints {
        *left.entry((&constraint.topology_key, &constraint.when_unsatisfiable)).or_insert(0_usize) += 1;
    }
    for (index, constraint) in constraints.iter().enumerate() {
        let at = path.index(index);
        if constraint.max_skew <= 0 {
            errors.push(FieldError::invalid(
                &at.child("maxSkew"),
                constraint.max_skew,
                "must be greater than zero",
            ));
        }
        if constraint.topology_key.is_empty() {
            errors.push(FieldError::required(&at.child("topologyKey"), "can not be empty"));
        }
        let allowed = ["DoNotSchedule", "ScheduleAnyway"];
        one_of(&at.child("whenUnsatisfiable"), &constraint.when_unsatisfiable, &allowed, errors);
        // Upstream names the first of two that are the same.
        let behind = left.get_mut(&(&constraint.topology_key, &constraint.when_unsatisfiable));
        let behind = behind.map_or(0, |left| {
            *left -= 1;
            *left
        });
        if behind > 0 {
            let pair = format!("{{{}, {}}}", constraint.topology_key, constraint.when_unsatisfiable);
            errors.push(FieldError::duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        if let Some(domains) = constraint.min_domains {
            let at = at.child("minDomains");
            if domains <= 0 {
                errors.push(FieldError::invalid(&at, domains, "must be greater than zero"));
            }
            if constraint.when_unsatisfiable != "DoNotSchedule" {
                let why = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    constraint.when_unsatisfiable
                );
                errors.push(FieldError::invalid(&at, domains, why));
            }
        }
        for (field, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            if let Some(policy) = policy {
                one_of(&at.child(field), policy, &["Honor", "Ignore"], errors);
            }
        }
        let keys = list(&constraint.match_label_keys);
        label_keys::label_keys(keys, &[], constraint.label_selector.as_ref(), &at, errors);
        if let Some(selector) = &constraint.label_selector {
            label_selector(selector, &at.child("labelSelector"), errors);
        }
    }
}

/// Scheduling gates: qualified names, each once.
pub(super) fn gates<'a>(gates: impl Iterator<Item = &'a str>, path: &FieldPath, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, gate) in gates.enumerate() {
        let at = path.index(index);
        refuse(&at, gate, names::qualified_name(gate), errors);
        if !seen.insert(gate) {
            errors.push(FieldError::duplicate(&at, gate));
        }
    }
}
