//! What of OpenAPI a schema may use, and what Kubernetes' extensions ask for. Upstream:
//! `apiextensions/validation`, `specStandardValidatorV3`.

use super::super::prelude::*;
use crate::custom::structural::{Structural, Type};
use crate::custom::{judge_at, prune_default};
use crate::table::read::{list, text};

/// Deepest schema that is checked: deeper ones are refused when they are parsed.
const MAX_DEPTH: usize = crate::custom::structural::MAX_DEPTH + 1;

/// Fields of OpenAPI and JSON Schema that are not taken.
const UNSUPPORTED: &[&str] =
    &["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

/// What the root of a schema may have where the status is a subresource, in upstream's words.
const AT_ROOT: &[&str] = &[
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// The status of an object is judged by its part of the schema alone, which must lose nothing by that.
pub(super) fn root_with_status(schema: &Value, path: &FieldPath, errors: &mut Errors) {
    let go_name = |field: &str| match field.strip_prefix("x-kubernetes-") {
        Some("preserve-unknown-fields") => "XPreserveUnknownFields".to_owned(),
        Some("validations") => "XValidations".to_owned(),
        Some(other) => other.to_owned(),
        None => field[..1].to_uppercase() + &field[1..],
    };
    let fields = schema.as_object().into_iter().flatten();
    let stranger = fields
        .filter(|(_, value)| !crate::meta::same(Some(value), None))
        .find(|(name, _)| name.is_empty() || !AT_ROOT.contains(&go_name(name).as_str()));
    if stranger.is_some() {
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            AT_ROOT.join(" ")
        );
        errors.push(FieldError::invalid(path, schema.clone(), why));
    }
}

/// Appends what is wrong with a schema.
pub(super) fn check(schema: &Value, path: &FieldPath, errors: &mut Errors) {
    node(schema, path, &Place { root: true, no_default: None, depth: 0 }, errors);
}

/// Where a node is.
struct Place {
    root: bool,
    /// Why there may be no default here.
    no_default: Option<String>,
    depth: usize,
}

impl Place {
    fn below(&self) -> Place {
        Place { root: false, no_default: self.no_default.clone(), depth: self.depth + 1 }
    }
}

fn node(schema: &Value, path: &FieldPath, place: &Place, errors: &mut Errors) {
    if place.depth > MAX_DEPTH {
        return;
    }
    standard(schema, path, place, errors);
    if schema["uniqueItems"] == true {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), why));
    }
    let has_properties = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
    let additional = &schema["additionalProperties"];
    if has_properties && (additional.is_object() || *additional == false) {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), why));
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let mut there = place.below();
        if place.root && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
            there.no_default = Some(format!("in top-level {name}"));
        }
        node(below, &path.child("properties").key(name), &there, errors);
    }
    for field in ["items", "additionalProperties", "not"] {
        if let Some(below) = schema.get(field).filter(|below| below.is_object()) {
            node(below, &path.child(field), &place.below(), errors);
        }
    }
    for junctor in ["allOf", "oneOf", "anyOf"] {
        for (index, below) in list(schema, &format!("/{junctor}")).iter().enumerate() {
            node(below, &path.child(junctor).index(index), &place.below(), errors);
        }
    }
    extensions(schema, path, errors);
}

fn standard(schema: &Value, path: &FieldPath, place: &Place, errors: &mut Errors) {
    let kind = text(schema, "/type");
    if !kind.is_empty() && Type::parse(kind).is_none() {
        let known: Vec<&str> = Type::ALL.iter().map(|(name, _)| *name).collect();
        errors.push(FieldError::not_supported(&path.child("type"), kind, &known));
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), why));
    }
    if let (Some(why), Some(_)) = (&place.no_default, schema.get("default")) {
        errors.push(FieldError::forbidden(&path.child("default"), format!("must not be set {why}")));
    }
    for field in UNSUPPORTED {
        if schema.get(*field).is_some_and(|value| !crate::meta::same(Some(value), None)) {
            errors.push(FieldError::forbidden(&path.child(field), format!("{field} is not supported")));
        }
    }
    if schema["items"].is_array() {
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&path.child("items"), why));
    }
}

/// `x-kubernetes-…`
fn extensions(schema: &Value, path: &FieldPath, errors: &mut Errors) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&at, false, "must be true or undefined"));
    }
    for (field, wanted, choices) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "map", "set"]),
    ] {
        let Some(value) = schema.get(field).and_then(Value::as_str) else { continue };
        let kind = text(schema, "/type");
        let why = format!("must be {wanted} if {field} is specified");
        if kind.is_empty() {
            errors.push(FieldError::required(&path.child("type"), why));
        } else if kind != wanted {
            errors.push(FieldError::invalid(&path.child("type"), kind, why));
        }
        if !choices.contains(&value) {
            errors.push(FieldError::not_supported(&path.child(field), value, choices));
        }
    }
    let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    let keys = list(schema, "/x-kubernetes-list-map-keys");
    let items = &schema["items"];
    let at = path.child("x-kubernetes-list-type");
    match list_type {
        None if !keys.is_empty() => {
            errors.push(FieldError::required(&at, "must be map if x-kubernetes-list-map-keys is non-empty"));
        }
        Some(other) if other != "map" && !keys.is_empty() => {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.push(FieldError::invalid(&at, other, why));
        }
        Some("set") => set(items, path, errors),
        Some("map") => map(schema, items, keys, path, errors),
        _ => {}
    }
    if let Some(kind @ ("set" | "map")) = list_type
        && items["nullable"] == true
    {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(&path.child("items").child("nullable"), why));
    }
}

/// Entries of a set are told apart as a whole.
fn set(items: &Value, path: &FieldPath, errors: &mut Errors) {
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (field, absent_is_fine) = match text(items, "/type") {
        "array" => ("x-kubernetes-list-type", true),
        "object" => ("x-kubernetes-map-type", false),
        _ => return,
    };
    let found = items.get(field).and_then(Value::as_str);
    if found.map_or(!absent_is_fine, |kind| kind != "atomic") {
        let value = found.map_or(Value::Null, Into::into);
        errors.push(FieldError::invalid(&path.child("items").child(field), value, why));
    }
}

/// More than this is not told of the keys of one list, since the whole list is shown with each.
const MAX_WRONG_KEYS: usize = 20;

/// Entries of a map are objects that have the keys.
fn map(schema: &Value, items: &Value, keys: &[Value], path: &FieldPath, errors: &mut Errors) {
    let at = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(&at, "must not be empty if x-kubernetes-list-type is map"));
    }
    if schema.get("items").is_none() {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&path.child("items"), why));
        return;
    }
    let kind = text(items, "/type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&path.child("items").child("type"), kind, why));
        return;
    }
    let required: HashSet<&Value> = list(items, "/required").iter().collect();
    let (mut seen, before) = (HashSet::new(), errors.len());
    for key in keys {
        if errors.len() - before > MAX_WRONG_KEYS {
            return;
        }
        let name = key.as_str().unwrap_or_default();
        let place = path.child("items").child("properties").key(name);
        let Some(field) = items["properties"].get(name) else {
            errors.push(FieldError::invalid(
                &at,
                json!(keys),
                "entries must all be names of item properties",
            ));
            continue;
        };
        if matches!(text(field, "/type"), "array" | "object") {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&place.child("type"), kind, why));
        }
        if !seen.insert(key) {
            errors.push(FieldError::invalid(&at, json!(keys), "must not contain duplicate entries"));
        }
        if !required.contains(key) && field.get("default").is_none_or(Value::is_null) {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                       property";
            errors.push(FieldError::required(&place.child("default"), why));
        }
        if field["nullable"] == true {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&place.child("nullable"), why));
        }
    }
}

/// Defaults have to be what the schema allows, and hold nothing that it does not know.
pub(super) fn defaults(schema: &Structural, path: &FieldPath, errors: &mut Errors) {
    if let Some(default) = schema.default.as_ref().filter(|default| !default.is_null()) {
        let at = path.child("default");
        if prune_default(default, schema) != *default {
            errors.push(FieldError::invalid(&at, default.clone(), "must not have unknown fields"));
        }
        errors.extend(judge_at(default, schema, &at));
    }
    if let Some(items) = &schema.items {
        defaults(items, &path.child("items"), errors);
    }
    for (name, below) in &schema.properties {
        defaults(below, &path.child("properties").key(name), errors);
    }
}

/// Formats that are checked; others are taken as any text.
const FORMATS: &[&str] = &[
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "date-time",
    "datetime",
    "double",
    "duration",
    "email",
    "float",
    "hexcolor",
    "hostname",
    "int32",
    "int64",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8s-long-name",
    "k8s-short-name",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// Says which formats mean nothing to the server.
pub(super) fn warnings(schema: &Value, warnings: &mut Vec<String>) {
    let Some(fields) = schema.as_object() else { return };
    if let Some(format) = fields.get("format").and_then(Value::as_str)
        && !format.is_empty()
        && !FORMATS.contains(&format)
    {
        warnings.push(format!("unrecognized format {format:?}"));
    }
    for (name, below) in fields {
        match (name.as_str(), below) {
            ("properties", Value::Object(all)) => {
                all.values().for_each(|below| self::warnings(below, warnings));
            }
            ("items" | "additionalProperties", below) => self::warnings(below, warnings),
            _ => {}
        }
    }
}
