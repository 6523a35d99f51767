//! What `x-kubernetes-list-type` and `…-embedded-resource` ask of values. Upstream: `schema/listtype`,
//! `schema/objectmeta`.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::numbers;
use super::structural::{ListType, Structural};
use crate::meta;
use crate::names;
use crate::status::{FieldError, FieldPath};

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Lists that hold an entry twice.
    Twins,
    /// Resources inside the object.
    Embedded,
}

/// Appends what is wrong with lists that hold an entry twice, unless the object that is replaced had such ones, and with
/// resources inside the object.
pub(super) fn validate(
    object: &Value,
    schema: &Structural,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    let look = |of: &Value, look: Look| {
        let mut found = Vec::new();
        node(of, schema, look, &FieldPath::default(), &mut found);
        found
    };
    let twins = look(object, Look::Twins);
    if !twins.is_empty() && old.is_none_or(|old| look(old, Look::Twins).is_empty()) {
        errors.extend(twins);
    }
    errors.extend(look(object, Look::Embedded));
}

fn node(value: &Value, schema: &Structural, look: Look, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            if schema.embedded && look == Look::Embedded {
                embedded(value, fields, path, errors);
            }
            for (name, field) in fields {
                if let Some(below) = schema.field(name) {
                    let known = schema.properties.contains_key(name);
                    node(field, below, look, &if known { path.child(name) } else { path.key(name) }, errors);
                }
            }
        }
        Value::Array(entries) => {
            if look == Look::Twins {
                twins(entries, &schema.list, path, errors);
            }
            if let Some(items) = &schema.items {
                for (index, entry) in entries.iter().enumerate() {
                    node(entry, items, look, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn twins(entries: &[Value], list: &ListType, path: &FieldPath, errors: &mut Vec<FieldError>) {
    match list {
        ListType::Atomic => {}
        ListType::Set => {
            for index in numbers::twins(entries) {
                errors.push(FieldError::duplicate(&path.index(index), entries[index].clone()));
            }
        }
        ListType::Map(keys) => {
            let mut seen = HashSet::new();
            for (index, entry) in entries.iter().enumerate() {
                let identity: Map<String, Value> =
                    keys.iter().filter_map(|k| Some((k.clone(), entry.get(k)?.clone()))).collect();
                let identity = Value::Object(identity);
                if !seen.insert(numbers::canonical(&identity)) {
                    errors.push(FieldError::duplicate(&path.index(index), identity));
                }
            }
        }
    }
}

/// A resource inside the object says what it is, and has metadata as every resource.
fn embedded(value: &Value, fields: &Map<String, Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let api_version = text("apiVersion");
    if api_version.is_empty() {
        errors.push(FieldError::required(&path.child("apiVersion"), "must not be empty"));
    } else if api_version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {api_version}");
        errors.push(FieldError::invalid(&path.child("apiVersion"), api_version, why));
    }
    let kind = text("kind");
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("kind"), "must not be empty"));
    } else {
        for why in names::dns1035_label(&kind.to_lowercase()) {
            let why = format!("may have mixed case, but should otherwise match: {why}");
            errors.push(FieldError::invalid(&path.child("kind"), kind, why));
        }
    }
    let at = path.child("metadata");
    if let Some(labels) = meta::labels(value) {
        meta::validate_labels(labels, &at.child("labels"), errors);
    }
    let annotations = meta::metadata(value).and_then(|m| m.get("annotations")).and_then(Value::as_object);
    if let Some(annotations) = annotations {
        meta::validate_annotations(annotations, &at.child("annotations"), errors);
    }
}
