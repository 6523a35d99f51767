//! Pruning: fields that the schema does not know are dropped. Upstream: `schema/pruning`.

use serde_json::{Map, Value};

use super::structural::{Additional, Structural, is_type_meta};

/// Most unknown fields that are named.
const MAX_NAMED: usize = 100;

/// Drops the unknown fields of `object`, which is a whole resource; answers their paths, as far as there are not too
/// many.
pub fn prune(object: &mut Value, schema: &Structural) -> Vec<String> {
    let mut dropped = Vec::new();
    node(object, schema, true, &mut String::new(), &mut dropped);
    dropped
}

/// What is left of a default of a node.
pub(crate) fn prune_default(default: &Value, schema: &Structural) -> Value {
    let mut value = default.clone();
    node(&mut value, schema, schema.embedded, &mut String::new(), &mut Vec::new());
    value
}

/// Runs `inner` with `segment` added to the path.
fn at(path: &mut String, segment: &str, inner: impl FnOnce(&mut String)) {
    let length = path.len();
    if length > 0 && !segment.starts_with('[') {
        path.push('.');
    }
    path.push_str(segment);
    inner(path);
    path.truncate(length);
}

fn node(
    value: &mut Value,
    schema: &Structural,
    resource: bool,
    path: &mut String,
    dropped: &mut Vec<String>,
) {
    match value {
        Value::Object(fields) => object(fields, schema, resource, path, dropped),
        Value::Array(entries) => {
            let Some(items) = &schema.items else { return };
            for (index, entry) in entries.iter_mut().enumerate() {
                at(path, &format!("[{index}]"), |path| node(entry, items, items.embedded, path, dropped));
            }
        }
        _ => {}
    }
}

fn object(
    fields: &mut Map<String, Value>,
    schema: &Structural,
    resource: bool,
    path: &mut String,
    dropped: &mut Vec<String>,
) {
    let keeps_all = schema.preserve || matches!(schema.additional, Some(Additional::Allowed(true)));
    fields.retain(|name, value| {
        // What every resource has is checked by its own type.
        if resource && is_type_meta(name) {
            return true;
        }
        match schema.field(name) {
            Some(below) => {
                at(path, name, |path| node(value, below, below.embedded, path, dropped));
                true
            }
            None if keeps_all => true,
            None => {
                if dropped.len() < MAX_NAMED {
                    at(path, name, |path| dropped.push(path.clone()));
                }
                false
            }
        }
    });
}
