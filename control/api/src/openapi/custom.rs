//! Schemas of custom resources as OpenAPI tells them: the definition's own, with what every object has.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::schemas::reference;
use crate::custom::Version;

/// The type of every object's metadata.
pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should \
    convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this \
    from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The schema of a version.
pub(super) fn schema(version: &Version, dialect: Dialect) -> Value {
    let mut schema = version.source.clone();
    tell(&mut schema, true, dialect);
    schema
}

/// Brings a node, and what is below it, into the dialect.
fn tell(schema: &mut Value, resource: bool, dialect: Dialect) {
    let Some(fields) = schema.as_object_mut() else { return };
    if dialect == Dialect::V2 {
        simplify(fields, resource);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(below) = fields.get_mut(name) {
            tell(below, false, dialect);
        }
    }
    for below in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        tell(below.1, false, dialect);
    }
    let embedded = fields.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    if resource || embedded {
        let properties = fields.entry("properties").or_insert_with(|| Map::new().into());
        if let Some(properties) = properties.as_object_mut() {
            add_identity(properties, dialect);
        }
    }
    if resource {
        fields.entry("type").or_insert_with(|| "object".into());
    }
}

/// What v2 cannot say is left out, so that clients that check by it refuse nothing that is right.
fn simplify(fields: &mut Map<String, Value>, resource: bool) {
    for name in ["oneOf", "anyOf", "allOf", "not"] {
        fields.remove(name);
    }
    if fields.remove("nullable") == Some(Value::Bool(true)) {
        for name in ["type", "properties", "items", "additionalProperties", "required"] {
            fields.remove(name);
        }
    }
    let keeps = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if keeps && !resource {
        fields.remove("properties");
        fields.remove("items");
    }
    if fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        fields.remove("type");
    }
}

/// `apiVersion`, `kind` and `metadata`, which definitions need not spell out.
fn add_identity(properties: &mut Map<String, Value>, dialect: Dialect) {
    for (name, text) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        properties.insert(name.into(), json!({"type": "string", "description": text}));
    }
    let target = reference(OBJECT_META, dialect);
    let metadata = match dialect {
        Dialect::V2 => json!({"description": METADATA, "$ref": target["$ref"]}),
        Dialect::V3 => json!({"description": METADATA, "allOf": [target]}),
    };
    properties.insert("metadata".into(), metadata);
}
