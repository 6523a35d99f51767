//! Whether a schema is structural. Upstream: `apiserver/schema/validation.go`.

use super::super::prelude::*;
use crate::custom::structural::compile_pattern;
use crate::table::read::{list, text};

/// Where a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Deepest schema that is checked: deeper ones are refused when they are parsed.
const MAX_DEPTH: usize = crate::custom::structural::MAX_DEPTH + 1;

/// Appends what makes `schema` not structural, in order of the messages.
pub(super) fn check(schema: &Value, path: &FieldPath, errors: &mut Errors) {
    let mut found = Errors::new();
    node(schema, Level::Root, path, 0, &mut found);
    complete(schema, schema, path, &mut found);
    found.sort_by_cached_key(ToString::to_string);
    errors.extend(found);
}

fn flag(schema: &Value, field: &str) -> bool {
    schema.get(field) == Some(&Value::Bool(true))
}

fn fields<'v>(schema: &'v Value, field: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    schema.get(field).and_then(Value::as_object).into_iter().flatten()
}

/// The invariants of the structure itself.
fn node(schema: &Value, level: Level, path: &FieldPath, depth: usize, errors: &mut Errors) {
    if depth > MAX_DEPTH {
        return;
    }
    let kind = text(schema, "/type");
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    match schema.get("items") {
        Some(items) => node(items, Level::Item, &path.child("items"), depth + 1, errors),
        None if kind == "array" => {
            errors.push(FieldError::required(&path.child("items"), "must be specified"))
        }
        None => {}
    }
    for (name, below) in fields(schema, "properties") {
        node(below, Level::Field, &path.child("properties").key(name), depth + 1, errors);
    }
    let additional = schema.get("additionalProperties");
    let at = path.child("additionalProperties");
    if additional.is_some() && level == Level::Root {
        errors.push(FieldError::forbidden(&at, "must not be used at the root"));
    }
    if let Some(below) = additional.filter(|below| below.is_object()) {
        node(below, Level::Field, &at, depth + 1, errors);
    }
    for (other, on) in [("preserve-unknown-fields", preserve), ("embedded-resource", embedded)] {
        if int_or_string && on {
            let path = path.child(&format!("x-kubernetes-{other}"));
            errors.push(FieldError::invalid(
                &path,
                true,
                "must be false if x-kubernetes-int-or-string is true",
            ));
        }
    }
    values(schema, level, path, depth, errors);
    kinds(schema, level, path, errors);
    if embedded && additional.is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&at, why));
    }
    if level == Level::Root || embedded {
        identity(schema, level, path, errors);
    }
    if embedded && !preserve && fields(schema, "properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), why));
    }
}

/// The type that a node has to have.
fn kinds(schema: &Value, level: Level, path: &FieldPath, errors: &mut Errors) {
    let kind = text(schema, "/type");
    let at = path.child("type");
    let typeless =
        flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    if flag(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() {
            FieldError::required(&at, why)
        } else {
            FieldError::invalid(&at, kind, why)
        });
    } else if kind.is_empty() && !typeless {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at, why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&at, kind, "must be object at the root"));
    }
}

/// What a schema may say of `apiVersion`, `kind` and `metadata`.
fn identity(schema: &Value, level: Level, path: &FieldPath, errors: &mut Errors) {
    let properties = &schema["properties"];
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(found) = properties.get(name) else { continue };
        let kind = text(found, "/type");
        if kind != wanted {
            let at = path.child("properties").key(name).child("type");
            errors.push(FieldError::invalid(&at, kind, format!("must be {wanted}")));
        }
    }
    let Some(metadata) = properties.get("metadata").and_then(Value::as_object) else { return };
    let plain = metadata.iter().all(|(field, value)| match field.as_str() {
        "type" | "description" => true,
        "properties" => fields(&json!({"p": value}), "p").all(|(n, _)| n == "name" || n == "generateName"),
        _ => false,
    });
    if level == Level::Root && !plain {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&path.child("properties").key("metadata"), why));
    }
}

/// Whether the alternatives are those that `x-kubernetes-int-or-string` allows to be spelt out.
fn spells_int_or_string(schema: &Value) -> bool {
    schema.get("anyOf") == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

/// What judges values: patterns, and nested schemas, which may not say anything of the structure.
fn values(schema: &Value, level: Level, path: &FieldPath, depth: usize, errors: &mut Errors) {
    let pattern = text(schema, "/pattern");
    if !pattern.is_empty()
        && let Err(why) = compile_pattern(pattern)
    {
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, why.to_string()));
    }
    let spelt = spells_int_or_string(schema);
    for junctor in ["anyOf", "allOf", "oneOf"] {
        for (index, below) in list(schema, &format!("/{junctor}")).iter().enumerate() {
            if junctor == "anyOf" && spelt && flag(schema, "x-kubernetes-int-or-string") {
                continue;
            }
            let first = junctor == "allOf" && index == 0;
            nested(below, first, level, &path.child(junctor).index(index), depth + 1, errors);
        }
    }
    if let Some(below) = schema.get("not") {
        nested(below, false, level, &path.child("not"), depth + 1, errors);
    }
}

/// Fields that a nested schema may not have, and what is said of them.
const FORBIDDEN: &[(&str, &str)] = &[
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("externalDocs", "must be undefined to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

fn nested(
    schema: &Value,
    may_spell: bool,
    level: Level,
    path: &FieldPath,
    depth: usize,
    errors: &mut Errors,
) {
    if depth > MAX_DEPTH {
        return;
    }
    if !(may_spell && spells_int_or_string(schema)) {
        values(schema, level, path, depth, errors);
    }
    if let Some(items) = schema.get("items") {
        nested(items, false, level, &path.child("items"), depth + 1, errors);
    }
    for (name, below) in fields(schema, "properties") {
        nested(below, false, Level::Field, &path.child("properties").key(name), depth + 1, errors);
    }
    for (field, why) in FORBIDDEN {
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => *field != "default",
            Value::String(text) => text.is_empty() && *field != "default",
            Value::Array(entries) => entries.is_empty() && *field != "default",
            _ => false,
        };
        if schema.get(*field).is_some_and(|value| !empty(value)) {
            errors.push(FieldError::forbidden(&path.child(field), *why));
        }
    }
    if schema["properties"].get("metadata").is_some() {
        let at = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&at, "must not be specified in a nested context"));
    }
}

/// Every field and item that a nested schema speaks of has to be in the structure, too.
fn complete(schema: &Value, structure: &Value, path: &FieldPath, errors: &mut Errors) {
    for (name, below) in fields(schema, "properties") {
        complete(below, below, &path.child("properties").key(name), errors);
    }
    for field in ["items", "additionalProperties"] {
        if let Some(below) = schema.get(field).filter(|below| below.is_object()) {
            complete(below, below, &path.child(field), errors);
        }
    }
    covered(schema, structure, path, path, errors);
}

/// `schema`'s nested schemas at `at` speak of nothing that `structure`, at `of`, lacks.
fn covered(schema: &Value, structure: &Value, at: &FieldPath, of: &FieldPath, errors: &mut Errors) {
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (index, below) in list(schema, &format!("/{junctor}")).iter().enumerate() {
            nested_covered(below, structure, &at.child(junctor).index(index), of, errors);
        }
    }
    if let Some(below) = schema.get("not") {
        nested_covered(below, structure, &at.child("not"), of, errors);
    }
}

fn nested_covered(schema: &Value, structure: &Value, at: &FieldPath, of: &FieldPath, errors: &mut Errors) {
    if let Some(items) = schema.get("items") {
        let of = of.child("items");
        match structure.get("items") {
            Some(known) => nested_covered(items, known, &at.child("items"), &of, errors),
            None => errors
                .push(FieldError::required(&of, format!("because it is defined in {}", at.child("items")))),
        }
    }
    for (name, below) in fields(schema, "properties") {
        let (at, of) = (at.child("properties").key(name), of.child("properties").key(name));
        match structure["properties"].get(name) {
            Some(known) => nested_covered(below, known, &at, &of, errors),
            None => errors.push(FieldError::required(&of, format!("because it is defined in {at}"))),
        }
    }
    covered(schema, structure, at, of, errors);
}
