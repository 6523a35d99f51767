//! Keys of labels by which pods are held together or apart with those of their own values: `matchLabelKeys` and
//! `mismatchLabelKeys`.
//!
//! When a pod is created, its values go into the selector beside the keys ([`merge`]), so that whoever reads the pod needs
//! to know of selectors only.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Map, Value, json};

use super::{Errors, list, refuse};
use crate::defaults;
use crate::names;
use crate::status::{FieldError, FieldPath};

/// The keys of a term or constraint at `path`, whose selector has their values already.
pub(super) fn label_keys(
    same: &[String],
    other: &[String],
    selector: Option<&LabelSelector>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    for (field, keys) in [("matchLabelKeys", same), ("mismatchLabelKeys", other)] {
        let at = path.child(field);
        if selector.is_none() && !keys.is_empty() {
            errors.push(FieldError::forbidden(&at, "must not be specified when labelSelector is not set"));
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            refuse(&at.index(index), key, names::qualified_name(key), errors);
        }
    }
    // One expression is the merged one; a second one of the same key comes from the user.
    let labels = selector.and_then(|s| s.match_labels.as_ref()).into_iter().flatten();
    let mut seen: BTreeSet<&str> = labels.map(|(key, _)| key.as_str()).collect();
    let places: HashMap<&str, usize> = same.iter().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
    for expression in selector.map(|s| list(&s.match_expressions)).unwrap_or_default() {
        let twice = !seen.insert(&expression.key);
        if let Some(index) = places.get(expression.key.as_str()).filter(|_| twice) {
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(*index), expression.key.as_str(), why));
        }
    }
    let other: BTreeSet<&String> = other.iter().collect();
    for (index, key) in same.iter().enumerate().filter(|(_, key)| other.contains(key)) {
        let at = path.child("matchLabelKeys").index(index);
        let why = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(&at, key.as_str(), why));
    }
}

/// Puts the values of a new pod's labels into the selectors of its affinities and spread constraints.
pub(crate) fn merge(pod: &mut Value) {
    let Some(labels) = pod.pointer("/metadata/labels").and_then(Value::as_object).cloned() else { return };
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for constraint in defaults::objects(spec, "topologySpreadConstraints") {
        add(constraint, &labels);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.get_mut("affinity").and_then(|affinity| affinity.get_mut(kind));
        let Some(affinity) = affinity.and_then(Value::as_object_mut) else { continue };
        for term in defaults::objects(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            add(term, &labels);
        }
        for weighted in defaults::objects(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = defaults::object(weighted, "podAffinityTerm") {
                add(term, &labels);
            }
        }
    }
}

fn add(term: &mut Map<String, Value>, labels: &Map<String, Value>) {
    let mut expressions = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(field).and_then(Value::as_array).into_iter().flatten();
        for key in keys.filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    // Without a selector no pod matches, whatever its labels.
    let Some(selector) = defaults::object(term, "labelSelector").filter(|_| !expressions.is_empty()) else {
        return;
    };
    match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        Some(present) => present.extend(expressions),
        None => {
            selector.insert("matchExpressions".to_owned(), expressions.into());
        }
    }
}
