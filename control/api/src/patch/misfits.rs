//! What upstream says of a patch whose result is not of the kind's type: it shows another text for each kind of patch,
//! and reads the result of a strategic merge by other means than JSON, with words of their own.

use serde_json::Value;

use super::PatchKind;
use crate::codec::{self, Decoded, Media};
use crate::resource::Resource;
use crate::schema::{Shape, registry};

/// What is told of a patch whose result is not of the kind's type.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Misfit {
    /// The value that is said to be invalid: of a strategic merge the patch, of others what they made.
    pub shown: String,
    /// Why, where it is not what a decoder of JSON says.
    pub why: Option<String>,
}

impl Misfit {
    /// Of a patch and what it made, which should have been a `shape`.
    pub fn of(kind: PatchKind, patch: &Value, patched: &Value, shape: &Shape) -> Self {
        match kind {
            PatchKind::Strategic => Misfit { shown: in_go(patch), why: misfit(patched, shape) },
            PatchKind::Json | PatchKind::Merge => Misfit { shown: patched.to_string(), why: None },
        }
    }
}

/// Finds out what upstream tells of such a patch. It is applied once more for that, since none but a refusal needs it.
pub fn wrong_result(kind: PatchKind, resource: &Resource, original: Value, body: &[u8]) -> Misfit {
    let Ok(Decoded { value: patch, .. }) = codec::decode(body, Media::Json) else { return Misfit::default() };
    match super::patched(kind, resource, original, patch.clone()) {
        Ok(patched) => Misfit::of(kind, &patch, &patched, &resource.schema.shape()),
        Err(_) => Misfit::default(),
    }
}

/// A value as Go prints one without a type: `map[a:1 b:[x y]]`.
fn in_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(in_go).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            let fields: Vec<String> =
                fields.into_iter().map(|(name, value)| format!("{name}:{}", in_go(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The first value that the result of a strategic merge has in a wrong place; `None` where upstream says what a decoder
/// of JSON says.
fn misfit(value: &Value, shape: &Shape) -> Option<String> {
    let found = found(value)?;
    match (shape, value) {
        (Shape::Object(id), Value::Object(fields)) => {
            let known = &registry().get(*id).fields;
            known.iter().find_map(|field| misfit(fields.get(&*field.name)?, &field.shape))
        }
        (Shape::Map(of), Value::Object(fields)) => fields.values().find_map(|value| misfit(value, of)),
        (Shape::List(of), Value::Array(items)) => items.iter().find_map(|item| misfit(item, of)),
        (Shape::Object(_), _) => Some(format!("cannot restore struct from: {found}")),
        (Shape::Map(_), _) => Some(format!("cannot restore map from {found}")),
        (Shape::List(_), _) => Some(format!("cannot restore slice from {found}")),
        (Shape::Text, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => None,
        // Go would make a letter of a number, and cut a fraction off; its reader refuses both by itself.
        (Shape::Text, Value::Number(_)) if found == "int64" => Some("cannot convert int64 to string".into()),
        (Shape::Int32 | Shape::Int64, Value::Number(_)) if found == "int64" => None,
        (Shape::Int32 | Shape::Int64, Value::Number(_)) => {
            Some(format!("cannot convert float64 to {}", simple(shape)?))
        }
        _ => Some(format!("unrecognized type: {}", simple(shape)?)),
    }
}

/// Go's kind of a value that is read without a type; nothing for null, which fits everywhere.
fn found(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    })
}

/// Go's name of a type that is not made of others and reads no text of its own.
fn simple(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Text => Some("string"),
        Shape::Bool => Some("bool"),
        Shape::Int32 => Some("int32"),
        Shape::Int64 => Some("int64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_go_prints_them() {
        let value = json!({"b": [1, "x", true, null], "a": {"k": 1.5}, "c": {}, "d": []});
        assert_eq!(in_go(&value), "map[a:map[k:1.5] b:[1 x true <nil>] c:map[] d:[]]");
    }

    #[test]
    fn what_does_not_fit_is_said_in_the_words_of_upstreams_converter() {
        let shape = crate::find("", "v1", "pods").unwrap().schema.shape();
        for (pod, expected) in [
            (json!({"metadata": {"labels": "x"}}), Some("cannot restore map from string")),
            (json!({"metadata": {"labels": {"a": 1}}}), Some("cannot convert int64 to string")),
            (json!({"metadata": {"labels": {"a": true}}}), Some("unrecognized type: string")),
            (json!({"metadata": {"finalizers": {}}}), Some("cannot restore slice from map")),
            (json!({"spec": []}), Some("cannot restore struct from: slice")),
            (json!({"spec": {"containers": [{"name": 1.5}]}}), Some("unrecognized type: string")),
            (json!({"spec": {"priority": 1.5}}), Some("cannot convert float64 to int32")),
            (json!({"spec": {"priority": "1"}}), Some("unrecognized type: int32")),
            (json!({"spec": {"hostNetwork": "true"}}), Some("unrecognized type: bool")),
            (json!({"metadata": {"creationTimestamp": "x"}}), None),
            (json!({"metadata": {"name": "a", "labels": null, "unknown": 1}, "spec": {"priority": 1}}), None),
        ] {
            assert_eq!(misfit(&pod, &shape).as_deref(), expected, "{pod}");
        }
    }
}
