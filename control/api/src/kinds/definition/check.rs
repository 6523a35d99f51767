//! What is wrong with a definition, but for its schemas: names, versions, approval. Upstream:
//! `apiextensions/validation`.

use super::super::prelude::*;
use super::{conversion, versions};
use crate::custom::{APPROVED, is_approval, is_protected};
use crate::table::read::{list, text};

/// The name of a definition follows from what it defines.
pub(super) fn identity(definition: &Value, errors: &mut Errors) {
    let spec = &definition["spec"];
    let wanted = format!("{}.{}", text(spec, "/names/plural"), text(spec, "/group"));
    let name = meta::name(definition);
    if name != wanted {
        let path = FieldPath::root("metadata").child("name");
        errors.push(FieldError::invalid(&path, name, "must be spec.names.plural+\".\"+spec.group"));
    }
}

/// The specification. `old` is what it replaces.
pub(super) fn spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = spec_path();
    group(text(spec, "/group"), &path.child("group"), errors);
    let scope = text(spec, "/scope");
    match scope {
        "" => errors.push(FieldError::required(&path.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        _ => errors.push(FieldError::not_supported(&path.child("scope"), scope, &["Cluster", "Namespaced"])),
    }
    versions::check(spec, &path, errors);
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"], &format!("/{field}")).is_empty() {
            errors.push(FieldError::required(&path.child("names").child(field), ""));
        }
    }
    names(&spec["names"], &path.child("names"), errors);
    let keeps = |spec: &Value| spec["preserveUnknownFields"] == true;
    if keeps(spec) && !old.is_some_and(keeps) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&path.child("preserveUnknownFields"), true, why));
    }
}

fn group(group: &str, path: &FieldPath, errors: &mut Errors) {
    let wrong = crate::names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, group, wrong.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(path, group, "should be a domain with at least one dot"));
    }
}

/// The names of a resource, wanted or accepted.
pub(super) fn names(names: &Value, path: &FieldPath, errors: &mut Errors) {
    let label = |name: &str, path: &FieldPath, errors: &mut Errors| {
        let wrong = crate::names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(path, name, wrong.join(",")));
        }
    };
    for field in ["plural", "singular"] {
        let name = text(names, &format!("/{field}"));
        if !name.is_empty() {
            label(name, &path.child(field), errors);
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(names, &format!("/{field}"));
        let wrong = crate::names::dns1035_label(&name.to_lowercase());
        if !name.is_empty() && !wrong.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(FieldError::invalid(&path.child(field), name, why));
        }
    }
    let (kind, list_kind) = (text(names, "/kind"), text(names, "/listKind"));
    if !kind.is_empty() && kind == list_kind {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), list_kind, why));
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in list(names, &format!("/{field}")).iter().enumerate() {
            label(name.as_str().unwrap_or_default(), &path.child(field).index(index), errors);
        }
    }
}

/// Conversion, status, stored versions, and the approval of protected groups.
pub(super) fn rest(definition: &Value, old: Option<&Value>, errors: &mut Errors) {
    conversion::check(&definition["spec"]["conversion"], old, &spec_path().child("conversion"), errors);
    let path = status_path();
    names(&definition["status"]["acceptedNames"], &path.child("acceptedNames"), errors);
    stored_versions(definition, &path.child("storedVersions"), errors);
    approval(definition, old, errors);
}

/// Storage versions that are told to be missing in the list of the stored ones.
const MAX_MISSING: usize = 10;

fn stored_versions(definition: &Value, path: &FieldPath, errors: &mut Errors) {
    let stored = list(definition, "/status/storedVersions");
    if stored.is_empty() {
        errors.push(FieldError::invalid(path, json!([]), "must have at least one stored version"));
        return;
    }
    let versions = list(definition, "/spec/versions");
    let known: HashSet<&Value> = stored.iter().collect();
    let missing = versions.iter().filter(|v| v["storage"] == true && !known.contains(&v["name"]));
    // There is one such version, or it is told elsewhere that there are more; the whole list is shown with each.
    for version in missing.take(MAX_MISSING) {
        let why = format!("must have the storage version {}", text(version, "/name"));
        errors.push(FieldError::invalid(path, json!(stored), why));
    }
    let known: HashSet<&Value> = versions.iter().map(|version| &version["name"]).collect();
    for (index, name) in stored.iter().enumerate() {
        if !known.contains(name) {
            let name = name.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                 {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(index), name, why));
        }
    }
}

/// Groups of the Kubernetes project need an approval, which the annotation tells of.
fn approval(definition: &Value, old: Option<&Value>, errors: &mut Errors) {
    if !is_protected(text(definition, "/spec/group")) {
        return;
    }
    let found = meta::annotation(definition, APPROVED);
    // What was there before stays allowed as it is.
    if old.is_some_and(|old| meta::annotation(old, APPROVED) == found) {
        return;
    }
    let path = FieldPath::root("metadata").child("annotations").key(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match found {
        None | Some("") => errors.push(FieldError::required(
            &path,
            format!("protected groups must have approval annotation \"{APPROVED}\", {see}"),
        )),
        Some(value) if value.starts_with("unapproved") || is_approval(value) => {}
        Some(value) => errors.push(FieldError::invalid(
            &path,
            value,
            format!(
                "protected groups must have approval annotation \"{APPROVED}\" with either a URL or a reason \
                 starting with \"unapproved\", {see}"
            ),
        )),
    }
}
