//! Merge patches (RFC 7386) that turn one state of an object into another.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The merge patch that makes `old` into `new`; `None` when they are equal.
#[must_use]
pub(crate) fn merge(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for (name, value) in new {
        match old.get(name) {
            Some(before) => {
                if let Some(change) = merge(before, value) {
                    patch.insert(name.clone(), change);
                }
            }
            None => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// A patch of `status` from `old` to `new`, refused by the server if the object has changed since `meta`.
#[must_use]
pub(crate) fn status_patch<S: Serialize>(meta: &ObjectMeta, old: &S, new: &S) -> Value {
    // A status is plain data: numbers, strings, lists and maps with string keys always serialize.
    let (old, new) = (json!(old), json!(new));
    json!({ "metadata": guard(meta), "status": merge(&old, &new).unwrap_or_else(|| json!({})) })
}

/// The metadata by which the server refuses a patch of an object that has changed since `meta`, or that is another
/// one of the same name.
#[must_use]
pub(crate) fn guard(meta: &ObjectMeta) -> Value {
    json!({ "uid": meta.uid, "resourceVersion": meta.resource_version })
}

/// The merge patch that makes `old` into `new`, guarded by `meta`; `None` when they are equal.
#[must_use]
pub(crate) fn guarded<T: Serialize>(meta: &ObjectMeta, old: &T, new: &T) -> Option<Value> {
    // API objects are plain data: numbers, strings, lists and maps with string keys always serialize.
    let mut patch = merge(&json!(old), &json!(new))?;
    match (patch.get_mut("metadata").and_then(Value::as_object_mut), guard(meta)) {
        (Some(changed), Value::Object(guard)) => changed.extend(guard),
        (_, guard) => patch["metadata"] = guard,
    }
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_says_what_changed_what_came_and_what_went() {
        let old = json!({ "a": 1, "b": { "c": [1], "d": 2 }, "gone": true });
        let new = json!({ "a": 1, "b": { "c": [1, 2], "d": 2 }, "new": "x" });
        let patch = merge(&old, &new).unwrap();
        assert_eq!(patch, json!({ "b": { "c": [1, 2] }, "new": "x", "gone": null }));
        assert_eq!(merge(&new, &new), None);
    }
}
