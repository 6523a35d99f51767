//! Validation of metadata on create and update, as upstream's `apimachinery/pkg/api/validation` does it.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{deletion_time, finalizers, generation, is_deleting, metadata, owners};
use crate::names;
use crate::resource::Scope;
use crate::status::{FieldError, FieldPath};

/// Largest total of annotation keys and values, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What names a kind allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// DNS-1123 label: namespaces.
    Label,
    /// DNS-1123 subdomain: most kinds.
    Subdomain,
    /// DNS-1035 label: services.
    Label1035,
    /// Anything that can be one segment of a path: RBAC kinds.
    PathSegment,
    /// An IP address in its canonical form.
    IpAddress,
}

impl NameRule {
    /// What is wrong with `name`; a prefix (`generateName`) may end in a hyphen.
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        if self == NameRule::PathSegment {
            return names::path_segment(name, prefix);
        }
        if self == NameRule::IpAddress {
            return crate::addresses::strict_address(name);
        }
        let masked;
        let name = if prefix && name.ends_with('-') {
            // As upstream: a trailing hyphen stands for the characters to come.
            masked = format!("{}a", &name[..name.len() - 1]);
            &masked
        } else {
            name
        };
        match self {
            NameRule::Label => names::dns1123_label(name),
            NameRule::Label1035 => names::dns1035_label(name),
            NameRule::Subdomain | NameRule::PathSegment | NameRule::IpAddress => {
                names::dns1123_subdomain(name)
            }
        }
    }
}

fn path() -> FieldPath {
    FieldPath::root("metadata")
}

/// Appends what is wrong with the metadata of a new object.
pub fn validate_create(object: &Value, scope: Scope, rule: NameRule, errors: &mut Vec<FieldError>) {
    let name = super::name(object);
    let base = super::text(object, "generateName");
    if !base.is_empty() {
        let at = path().child("generateName");
        errors.extend(rule.check(base, true).into_iter().map(|why| FieldError::invalid(&at, base, why)));
    }
    let at = path().child("name");
    if name.is_empty() {
        errors.push(FieldError::required(&at, "name or generateName is required"));
    } else {
        errors.extend(rule.check(name, false).into_iter().map(|why| FieldError::invalid(&at, name, why)));
    }
    validate_namespace(super::namespace(object), scope, errors);
    validate_common(object, errors);
}

fn validate_namespace(namespace: &str, scope: Scope, errors: &mut Vec<FieldError>) {
    let at = path().child("namespace");
    match scope {
        Scope::Cluster if !namespace.is_empty() => {
            errors.push(FieldError::forbidden(&at, "not allowed on this type"));
        }
        Scope::Cluster => {}
        Scope::Namespaced if namespace.is_empty() => errors.push(FieldError::required(&at, "")),
        Scope::Namespaced => errors.extend(
            names::dns1123_label(namespace).into_iter().map(|w| FieldError::invalid(&at, namespace, w)),
        ),
    }
}

/// What holds on create and on update.
fn validate_common(object: &Value, errors: &mut Vec<FieldError>) {
    if generation(object) < 0 {
        let at = path().child("generation");
        errors.push(FieldError::invalid(&at, generation(object), names::NOT_NEGATIVE));
    }
    let Some(metadata) = metadata(object) else { return };
    if let Some(labels) = metadata.get("labels").and_then(Value::as_object) {
        validate_labels(labels, &path().child("labels"), errors);
    }
    if let Some(annotations) = metadata.get("annotations").and_then(Value::as_object) {
        validate_annotations(annotations, &path().child("annotations"), errors);
    }
    validate_owners(object, errors);
    let at = path().child("finalizers");
    for finalizer in finalizers(object) {
        let wrong = names::qualified_name(finalizer);
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&at, finalizer, why)));
    }
    let has = |name: &str| finalizers(object).any(|finalizer| finalizer == name);
    if has(ORPHAN) && has(FOREGROUND) {
        let all: Vec<&str> = finalizers(object).collect();
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(&at, all, why));
    }
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Whether a finalizer says whose it is, or is one that everybody knows.
fn is_kube_finalizer(name: &str) -> bool {
    name.contains('/') || matches!(name, "kubernetes" | ORPHAN | FOREGROUND)
}

/// Appends which finalizers have no domain: those of most built-in kinds have one.
pub fn validate_kube_finalizers(object: &Value, errors: &mut Vec<FieldError>) {
    let at = path().child("finalizers");
    for (index, name) in finalizers(object).enumerate().filter(|(_, name)| !is_kube_finalizer(name)) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(&at.index(index), name, why));
    }
}

/// Advice about the finalizers that a write brings: those of custom resources may have any name.
pub fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let before: BTreeSet<&str> = old.into_iter().flat_map(finalizers).collect();
    let added: BTreeSet<&str> = finalizers(new).filter(|f| !before.contains(f)).collect();
    let at = path().child("finalizers");
    let advice = "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with \
                  other finalizer writers";
    let bare = added.into_iter().filter(|name| !is_kube_finalizer(name));
    bare.map(|name| format!("{at}: {name:?}: {advice}")).collect()
}

/// Appends what is wrong with a map of labels at `at`.
pub fn validate_labels(labels: &Map<String, Value>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    for (key, value) in labels {
        let value = value.as_str().unwrap_or_default();
        errors
            .extend(names::qualified_name(key).into_iter().map(|w| FieldError::invalid(at, key.as_str(), w)));
        errors.extend(names::label_value(value).into_iter().map(|w| FieldError::invalid(at, value, w)));
    }
}

/// Appends what is wrong with a map of annotations at `at`.
pub fn validate_annotations(annotations: &Map<String, Value>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut total = 0;
    for (key, value) in annotations {
        // Annotation keys may have capitals in the domain, for the sake of old ones.
        let wrong = names::qualified_name(&key.to_lowercase());
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid(at, key.as_str(), why)));
        total += key.len() + value.as_str().unwrap_or_default().len();
    }
    if total > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(at, MAX_ANNOTATIONS));
    }
}

fn validate_owners(object: &Value, errors: &mut Vec<FieldError>) {
    let all = path().child("ownerReferences");
    let mut controller: Option<&str> = None;
    for (index, owner) in owners(object).enumerate() {
        let at = all.index(index);
        let version = owner.api_version.rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            errors.push(FieldError::invalid(
                &at.child("apiVersion"),
                owner.api_version,
                "version must not be empty",
            ));
        }
        for (field, value) in [("kind", owner.kind), ("name", owner.name), ("uid", owner.uid)] {
            if value.is_empty() {
                errors.push(FieldError::invalid(&at.child(field), value, "must not be empty"));
            }
        }
        if owner.kind == "Event" && owner.api_version == "v1" {
            errors.push(FieldError::invalid(
                &at,
                owner.name,
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.controller {
            if let Some(other) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {other} and {}",
                    owner.name
                );
                errors.push(FieldError::invalid(&all, owner.name, why));
            }
            controller = Some(owner.name);
        }
    }
}

/// Fields that never change.
const IMMUTABLE: &[&str] =
    &["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// Appends what is wrong with the metadata of an update.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (new_meta, old_meta) = (metadata(new), metadata(old));
    if let (Some(now), before) = (super::deletion_grace(new), super::deletion_grace(old))
        && before != Some(now)
    {
        let why = "field is immutable; may only be changed via deletion";
        errors.push(FieldError::invalid(&path().child("deletionGracePeriodSeconds"), now, why));
    }
    for field in IMMUTABLE {
        let (now, before) = (new_meta.and_then(|m| m.get(*field)), old_meta.and_then(|m| m.get(*field)));
        if !super::same(now, before) {
            let value = now.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&path().child(field), value, names::IMMUTABLE));
        }
    }
    if generation(new) < generation(old) {
        let at = path().child("generation");
        errors.push(FieldError::invalid(&at, generation(new), "must not be decremented"));
    }
    if is_deleting(old) && deletion_time(old).is_some() {
        let before: BTreeSet<&str> = finalizers(old).collect();
        let added: Vec<&str> = finalizers(new).filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let quoted: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                quoted.join(", ")
            );
            errors.push(FieldError::forbidden(&path().child("finalizers"), why));
        }
    }
    validate_common(new, errors);
}
