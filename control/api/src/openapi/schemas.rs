//! Schemas of the types that a set of resources needs, with the extensions that clients read: kinds and merge rules.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::resource::{Resource, Verb};
use crate::schema::{Allowed, ListKind, ListRule, Registry, bodies, registry};

const DEFINITIONS: &str = "#/$defs/";

fn prefix(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V2 => "#/definitions/",
        Dialect::V3 => "#/components/schemas/",
    }
}

/// A reference to a type.
pub(super) fn reference(name: &str, dialect: Dialect) -> Value {
    json!({"$ref": format!("{}{name}", prefix(dialect))})
}

/// The OpenAPI name of a resource's list.
pub(super) fn list_name(resource: &Resource) -> String {
    format!("{}List", resource.schema.name)
}

/// All types that the resources, their lists and the bodies of their operations are made of.
pub(super) fn closure(resources: &[&Resource], dialect: Dialect) -> Map<String, Value> {
    let registry = registry();
    let mut waiting: Vec<String> = bodies::ALL.iter().map(|b| b.name.to_owned()).collect();
    waiting.extend(resources.iter().map(|r| r.schema.name.to_owned()));
    if resources.iter().any(|r| r.custom().is_some()) {
        waiting.push(super::custom::OBJECT_META.to_owned());
    }
    let mut seen = BTreeSet::new();
    let mut out = Map::new();
    while let Some(name) = waiting.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(raw) = registry.raw().get(&name) else { continue };
        let mut schema = raw.clone();
        rewrite(&mut schema, dialect, &mut waiting);
        scalars(&name, &mut schema, dialect);
        metadata_may_be_absent(&mut schema);
        extend_fields(registry, &name, &mut schema);
        out.insert(name, schema);
    }
    for resource in resources {
        if let Some(custom) = resource.custom() {
            out.insert(resource.schema.name.to_owned(), super::custom::schema(custom.version(), dialect));
        }
        let kind = resource.gvk();
        let extension = json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
        if let Some(Value::Object(schema)) = out.get_mut(resource.schema.name) {
            schema.insert("x-kubernetes-group-version-kind".into(), extension);
        }
        if resource.allows(Verb::List) {
            out.insert(list_name(resource), list_schema(resource, dialect));
        }
    }
    out
}

/// The types that schemas come from always have `metadata`; for upstream, and for clients that check what they send, it
/// may be left out.
fn metadata_may_be_absent(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let Some(required) = fields.get_mut("required").and_then(Value::as_array_mut) else { return };
    required.retain(|name| name != "metadata");
    if required.is_empty() {
        fields.remove("required");
    }
}

fn list_schema(resource: &Resource, dialect: Dialect) -> Value {
    json!({
        "description": format!("{} is a list of objects of kind {}.", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": reference(bodies::LIST_META.name, dialect),
            "items": {"type": "array", "items": reference(resource.schema.name, dialect)},
        },
        "x-kubernetes-group-version-kind":
            [{"group": resource.group, "version": resource.version, "kind": resource.list_kind}],
    })
}

/// Points references to where this dialect keeps types, and notes what they point to. In v3 a reference may have no
/// siblings, so that one with a description is wrapped.
fn rewrite(schema: &mut Value, dialect: Dialect, found: &mut Vec<String>) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, dialect, found)),
        Value::Object(fields) => {
            let name = fields
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix(DEFINITIONS))
                .map(ToOwned::to_owned);
            if let Some(name) = name {
                let target = reference(&name, dialect);
                found.push(name);
                if dialect == Dialect::V3 && fields.len() > 1 {
                    fields.remove("$ref");
                    fields.insert("allOf".into(), json!([target]));
                } else {
                    fields.insert("$ref".into(), target["$ref"].clone());
                }
                return;
            }
            fields.values_mut().for_each(|value| rewrite(value, dialect, found));
        }
        _ => {}
    }
}

/// Types that are one scalar are described as upstream does.
fn scalars(name: &str, schema: &mut Value, dialect: Dialect) {
    let Some(fields) = schema.as_object_mut() else { return };
    if dialect == Dialect::V2 {
        // Alternatives cannot be said in v2.
        fields.remove("oneOf");
    }
    if fields.remove("x-kubernetes-int-or-string").is_none() {
        return;
    }
    let quantity = name.ends_with(".Quantity");
    match (dialect, quantity) {
        (Dialect::V2, true) => {
            fields.insert("type".into(), "string".into());
        }
        (Dialect::V2, false) => {
            fields.insert("type".into(), "string".into());
            fields.insert("format".into(), "int-or-string".into());
        }
        (Dialect::V3, true) => {
            fields.insert("oneOf".into(), json!([{"type": "string"}, {"type": "number"}]));
        }
        (Dialect::V3, false) => {
            fields.insert("format".into(), "int-or-string".into());
            fields.insert("oneOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
        }
    }
}

fn extend_fields(registry: &Registry, name: &str, schema: &mut Value) {
    let Some(id) = registry.find(name) else { return };
    if registry.get(id).atomic
        && let Some(schema) = schema.as_object_mut()
    {
        schema.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for field in &registry.get(id).fields {
        let Some(Value::Object(property)) = properties.get_mut(&*field.name) else { continue };
        if let Some(rule) = field.rule {
            extend(property, rule);
        }
        if field.atomic || field.granular {
            let kind = if field.granular { "granular" } else { "atomic" };
            property.insert("x-kubernetes-map-type".into(), kind.into());
        }
        if let Some(values) = field.allowed {
            restrict(property, values);
        }
    }
}

/// Tells the values of a field: at the field, whose description ends with them, or at the entries of its list or map.
fn restrict(property: &mut Map<String, Value>, values: Allowed) {
    let inner = ["items", "additionalProperties"]
        .into_iter()
        .find(|name| property.get(*name).is_some_and(Value::is_object));
    if let Some(entries) = inner.and_then(|name| property.get_mut(name)) {
        entries["enum"] = values.names().into();
        return;
    }
    property.insert("enum".into(), values.names().into());
    let described = property.get("description").and_then(Value::as_str).unwrap_or_default();
    property.insert("description".into(), format!("{described}{}", values.description()).into());
}

fn extend(property: &mut Map<String, Value>, rule: &ListRule) {
    match rule.list {
        ListKind::Map(keys) => {
            property.insert("x-kubernetes-list-type".into(), "map".into());
            property.insert("x-kubernetes-list-map-keys".into(), keys.into());
        }
        ListKind::Set => {
            property.insert("x-kubernetes-list-type".into(), "set".into());
        }
        ListKind::Atomic => {
            property.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        ListKind::Object => {}
    }
    if let Some(key) = rule.patch_key {
        property.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
    let strategy = match (rule.list == ListKind::Object, rule.merge, rule.retain_keys) {
        (true, _, true) => Some("retainKeys"),
        (false, true, true) => Some("merge,retainKeys"),
        (false, true, false) => Some("merge"),
        _ => None,
    };
    if let Some(strategy) = strategy {
        property.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
}
