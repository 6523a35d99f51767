//! Defaulting by a schema. Upstream: `schema/defaulting`.

use serde_json::Value;

use super::structural::{Additional, Structural};

/// Drops nulls that are no values and have no default, then fills what is absent. Calling it again changes nothing.
pub fn default(object: &mut Value, schema: &Structural) {
    drop_nulls(object, schema);
    fill(object, schema);
}

/// Whether null means the absence of a value here.
fn is_absent(value: &Value, schema: &Structural) -> bool {
    value.is_null() && !schema.nullable
}

fn drop_nulls(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let Some(below) = schema.properties.get(name) else { return true };
                !(is_absent(value, below) && below.default.is_none())
            });
            for (name, value) in fields {
                if let Some(below) = schema.field(name) {
                    drop_nulls(value, below);
                }
            }
        }
        Value::Array(entries) => {
            if let Some(items) = &schema.items {
                entries.iter_mut().for_each(|entry| drop_nulls(entry, items));
            }
        }
        _ => {}
    }
}

fn fill(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(fields) => {
            for (name, below) in &schema.properties {
                let Some(default) = &below.default else { continue };
                if fields.get(name).is_none_or(|value| is_absent(value, below)) {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(below) = schema.properties.get(name) {
                    fill(value, below);
                } else if let Some(Additional::Schema(below)) = &schema.additional {
                    fill_entry(value, below);
                }
            }
        }
        Value::Array(entries) => {
            if let Some(items) = &schema.items {
                entries.iter_mut().for_each(|entry| fill_entry(entry, items));
            }
        }
        _ => {}
    }
}

/// An entry of a list or map, which may be null where it should not.
fn fill_entry(value: &mut Value, schema: &Structural) {
    if is_absent(value, schema)
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
    fill(value, schema);
}
