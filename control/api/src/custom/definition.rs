//! From the JSON of a CustomResourceDefinition to rows of the catalogue.

use std::cmp::Ordering;
use std::sync::{Arc, atomic};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::columns::PrinterColumn;
use super::path::simple;
use super::structural::{SchemaError, Structural};
use super::{Custom, Definition, Scale, Version, Webhook};
use crate::catalogue::intern;
use crate::kinds::{custom_row, custom_subresources};
use crate::resource::{GroupVersionKind, Resource, Scope};
use crate::table::read::{list, text};

/// Whether the resources of a definition are served: its names are accepted (and stay its own afterwards), and it is
/// not known to be gone.
pub fn is_served(definition: &Value) -> bool {
    condition(definition, "Established") == "True" || condition(definition, "NamesAccepted") == "True"
}

/// The status of a condition of a definition, or the empty string.
pub fn condition<'v>(definition: &'v Value, kind: &str) -> &'v str {
    let found = list(definition, "/status/conditions").iter().find(|c| text(c, "/type") == kind);
    found.map_or("", |condition| text(condition, "/status"))
}

/// Sets a condition of a definition; its time of transition changes with its status.
pub fn set_condition(
    definition: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let changed = condition(definition, kind) != status;
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(all) = conditions.as_array_mut() else { return };
    let known = all.iter().position(|c| text(c, "/type") == kind);
    let time = match known {
        Some(at) if !changed => all[at]["lastTransitionTime"].clone(),
        _ => crate::meta::format_time(now).into(),
    };
    let new = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time,
    });
    match known {
        Some(at) => all[at] = new,
        None => all.push(new),
    }
}

/// Whether two states of a definition make the same rows.
pub fn same_rows(a: &Value, b: &Value) -> bool {
    let names = |definition: &Value| definition["status"]["acceptedNames"].clone();
    is_served(a) == is_served(b) && a["spec"] == b["spec"] && names(a) == names(b)
}

/// The rows of a definition: one for each served version, the preferred first. Names are those that were accepted.
///
/// # Errors
/// When a schema cannot be used, which validation refuses before.
pub fn rows(definition: &Value) -> Result<Vec<Resource>, SchemaError> {
    let spec = &definition["spec"];
    let names = match &definition["status"]["acceptedNames"] {
        accepted if !text(accepted, "/plural").is_empty() => accepted,
        _ => &spec["names"],
    };
    let kind = intern(text(names, "/kind"));
    let group = intern(text(spec, "/group"));
    let specs = list(spec, "/versions");
    let versions = specs.iter().map(|v| version(v, group, kind)).collect::<Result<Vec<_>, _>>()?;
    let texts =
        |pointer: &str| list(names, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let definition = Arc::new(Definition {
        group,
        kind,
        scope: if text(spec, "/scope") == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        short_names: texts("/shortNames"),
        categories: texts("/categories"),
        storage: specs.iter().position(|v| v["storage"] == true).unwrap_or(0),
        versions,
        webhook: webhook(&spec["conversion"]),
        generation: GENERATIONS.fetch_add(1, atomic::Ordering::Relaxed),
    });
    let mut served: Vec<usize> = (0..specs.len()).filter(|at| specs[*at]["served"] == true).collect();
    served.sort_by(|a, b| priority(definition.versions[*a].name, definition.versions[*b].name));
    Ok(served.into_iter().map(|at| row(&definition, at, names)).collect())
}

/// Counts the states of definitions that rows were made of.
static GENERATIONS: atomic::AtomicU64 = atomic::AtomicU64::new(1);

/// The webhook of a definition's `conversion`.
fn webhook(conversion: &Value) -> Option<Webhook> {
    (text(conversion, "/strategy") == "Webhook").then(|| {
        let reviews = list(conversion, "/webhook/conversionReviewVersions").iter();
        Webhook {
            client: conversion["webhook"]["clientConfig"].clone(),
            reviews: reviews.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    })
}

fn row(definition: &Arc<Definition>, at: usize, names: &Value) -> Resource {
    let version = &definition.versions[at];
    let mut selectable = vec!["metadata.name"];
    if definition.scope == Scope::Namespaced {
        selectable.push("metadata.namespace");
    }
    selectable.extend(version.selectable.iter().map(|(name, _)| *name));
    let custom = Custom { definition: definition.clone(), at, selectable };
    let plural = text(names, "/plural");
    let (singular, list_kind) = (text(names, "/singular"), text(names, "/listKind"));
    let identity = GroupVersionKind { group: definition.group, version: version.name, kind: definition.kind };
    custom_row(identity, plural, singular, list_kind, Arc::new(custom))
}

fn version(spec: &Value, group: &'static str, kind: &'static str) -> Result<Version, SchemaError> {
    let name = intern(text(spec, "/name"));
    let source = spec.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
    let api_version = intern(&format!("{group}/{name}"));
    let scale = spec.pointer("/subresources/scale").filter(|s| s.is_object()).map(|scale| Scale {
        spec: simple(text(scale, "/specReplicasPath")),
        status: simple(text(scale, "/statusReplicasPath")),
        selector: Some(simple(text(scale, "/labelSelectorPath"))).filter(|path| !path.is_empty()),
    });
    let status = spec.pointer("/subresources/status").is_some_and(Value::is_object);
    let identity = GroupVersionKind { group, version: name, kind };
    let warning = || format!("{api_version} {kind} is deprecated");
    Ok(Version {
        name,
        api_version,
        schema: Structural::parse(&source)?,
        source,
        rules: Default::default(),
        columns: PrinterColumn::all(spec),
        subresources: custom_subresources(identity, status, scale.is_some()),
        scale,
        selectable: list(spec, "/selectableFields")
            .iter()
            .map(|field| simple(text(field, "/jsonPath")))
            .map(|path| (intern(&path.join(".")), path))
            .collect(),
        deprecated: (spec["deprecated"] == true)
            .then(|| spec["deprecationWarning"].as_str().map_or_else(warning, str::to_owned)),
    })
}

/// The order of versions that clients prefer: stable before beta before alpha, newer before older, then the rest by
/// name. Upstream: `version.CompareKubeAwareVersionStrings`.
fn priority(a: &str, b: &str) -> Ordering {
    match (parsed(a), parsed(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// How stable a version is, its number, and the number of its alpha or beta.
fn parsed(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let stage = &rest[digits..];
    for (name, rank) in [("alpha", 0), ("beta", 1)] {
        if let Some(minor) = stage.strip_prefix(name) {
            return Some((rank, major, minor.parse().ok()?));
        }
    }
    stage.is_empty().then_some((2, major, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_the_order_that_clients_prefer() {
        let mut versions =
            vec!["foo1", "v1alpha1", "v2beta1", "v10", "v2", "v11alpha2", "bar", "v1beta2", "v10beta3"];
        versions.sort_by(|a, b| priority(a, b));
        let expected =
            ["v10", "v2", "v10beta3", "v2beta1", "v1beta2", "v11alpha2", "v1alpha1", "bar", "foo1"];
        assert_eq!(versions, expected);
    }
}
