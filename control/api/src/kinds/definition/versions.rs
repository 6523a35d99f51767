//! What is wrong with the versions of a definition: subresources, columns, selectable fields; schemas are elsewhere.

use super::super::prelude::*;
use super::{openapi, shape};
use crate::custom::path::simple;
use crate::custom::structural::{Structural, Type};
use crate::table::read::{list, text};

/// Types of columns.
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
/// Formats of columns.
const COLUMN_FORMATS: &[&str] =
    &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// Most selectable fields of a version.
const MAX_SELECTABLE: usize = 8;

/// Checks `spec.versions`.
pub(super) fn check(spec: &Value, path: &FieldPath, errors: &mut Errors) {
    let versions = list(spec, "/versions");
    let all = path.child("versions");
    let mut seen = HashSet::new();
    let mut twice = false;
    for (index, version) in versions.iter().enumerate() {
        let name = text(version, "/name");
        twice |= !seen.insert(name);
        let wrong = crate::names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&all.index(index).child("name"), name, wrong.join(",")));
        }
        deprecation(version, &all.index(index), errors);
    }
    each(versions, path, errors);
    if twice {
        errors.push(FieldError::invalid(&all, json!(versions), "must contain unique version names"));
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&all, json!(versions), why));
    }
}

/// Checks the parts of versions. Where all versions have the same, upstream names the place that the part had before
/// versions were told apart, so that people know it by that name.
fn each(versions: &[Value], path: &FieldPath, errors: &mut Errors) {
    let parts: [(&str, &str, Check); 4] = [
        ("schema", "validation", schema),
        ("subresources", "subresources", subresources),
        ("additionalPrinterColumns", "additionalPrinterColumns", columns),
        ("selectableFields", "selectableFields", selectable),
    ];
    for (field, global, check) in parts {
        let shared = versions.windows(2).all(|pair| pair[0][field] == pair[1][field]);
        for (index, version) in versions.iter().enumerate() {
            let at =
                if shared { path.child(global) } else { path.child("versions").index(index).child(field) };
            if field == "schema" && !version[field]["openAPIV3Schema"].is_object() {
                let at = path.child("versions").index(index).child("schema").child("openAPIV3Schema");
                errors.push(FieldError::required(&at, "schemas are required"));
            } else if !version[field].is_null() {
                check(version, &at, errors);
            }
            if shared && !version[field].is_null() {
                break;
            }
        }
    }
}

/// Checks one part of a version, which is at a path.
type Check = fn(&Value, &FieldPath, &mut Errors);

fn schema(version: &Value, path: &FieldPath, errors: &mut Errors) {
    let schema = &version["schema"]["openAPIV3Schema"];
    let at = path.child("openAPIV3Schema");
    let before = errors.len();
    if version["subresources"]["status"].is_object() {
        openapi::root_with_status(schema, &at, errors);
    }
    if schema["nullable"] == true {
        errors.push(FieldError::forbidden(&at.child("nullable"), "nullable cannot be true at the root"));
    }
    shape::check(schema, &at, errors);
    openapi::check(schema, &at, errors);
    if errors.len() > before {
        return;
    }
    match Structural::parse(schema) {
        Err(why) => errors.push(FieldError::invalid(&at, "", why.to_string())),
        Ok(parsed) => openapi::defaults(&parsed, &at, errors),
    }
}

fn deprecation(version: &Value, path: &FieldPath, errors: &mut Errors) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let at = path.child("deprecationWarning");
    let mut wrong = |why: &str| errors.push(FieldError::invalid(&at, warning, why));
    if version["deprecated"] != true {
        wrong("can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        wrong("must be <= 256 characters long");
    }
    if warning.is_empty() {
        wrong("must not be an empty string");
    }
    if let Some(place) = warning.char_indices().find(|(_, c)| c.is_control()).map(|(at, _)| at) {
        wrong(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {place}"
        ));
    }
}

fn simple_path(value: &str, path: &FieldPath, errors: &mut Errors) -> bool {
    let right = value.starts_with('.');
    if !right {
        errors.push(FieldError::invalid(path, value, "must be a simple json path starting with ."));
    }
    right
}

fn subresources(version: &Value, path: &FieldPath, errors: &mut Errors) {
    let scale = &version["subresources"]["scale"];
    if !scale.is_object() {
        return;
    }
    for (field, places, why) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status"),
    ] {
        let value = text(scale, &format!("/{field}"));
        let at = path.child("scale").child(field);
        if value.is_empty() {
            if field != "labelSelectorPath" {
                errors.push(FieldError::required(&at, ""));
            }
        } else if simple_path(value, &at, errors) && !places.iter().any(|place| value.starts_with(place)) {
            errors.push(FieldError::invalid(&at, value, why));
        }
    }
}

fn columns(version: &Value, path: &FieldPath, errors: &mut Errors) {
    for (index, column) in list(version, "/additionalPrinterColumns").iter().enumerate() {
        let at = path.index(index);
        let (name, kind, format) = (text(column, "/name"), text(column, "/type"), text(column, "/format"));
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        let known = format!("must be one of {}", COLUMN_TYPES.join(","));
        if kind.is_empty() {
            errors.push(FieldError::required(&at.child("type"), known));
        } else if !COLUMN_TYPES.contains(&kind) {
            errors.push(FieldError::invalid(&at.child("type"), kind, known));
        }
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let known = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(&at.child("format"), format, known));
        }
        match text(column, "/jsonPath") {
            "" => errors.push(FieldError::required(&at.child("JSONPath"), "")),
            value => {
                simple_path(value, &at.child("JSONPath"), errors);
            }
        }
    }
}

fn selectable(version: &Value, path: &FieldPath, errors: &mut Errors) {
    let Ok(schema) = Structural::parse(&version["schema"]["openAPIV3Schema"]) else { return };
    let mut seen: HashSet<Vec<String>> = HashSet::new();
    for (index, field) in list(version, "/selectableFields").iter().enumerate() {
        let at = path.index(index).child("jsonPath");
        let value = text(field, "/jsonPath");
        if value.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let fields = simple(value);
        let found = if value.starts_with('.') { schema.at(fields.iter().map(String::as_str)) } else { None };
        let Some(found) = found else {
            let why = format!("is an invalid path: does not refer to a valid field: {value}");
            errors.push(FieldError::invalid(&at, value, why));
            continue;
        };
        if fields.first().is_some_and(|first| first == "metadata") {
            errors.push(FieldError::invalid(&at, value, "must not point to fields in metadata"));
        }
        if !matches!(found.kind, Some(Type::String | Type::Boolean | Type::Integer)) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                       with formats are allowed.";
            errors.push(FieldError::invalid(&at, value, why));
        }
        if !seen.insert(fields) {
            errors.push(FieldError::duplicate(&at, value));
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(path, seen.len(), MAX_SELECTABLE));
    }
}
