//! The type that a structural schema describes. Source: `apiserver/pkg/cel/common/schemas.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::escape::escape;
use crate::types::{ListKind, ListType, Max, ObjectType, STRING, Type};

/// Bytes of a request at most.
const REQUEST: u64 = 3 << 20;
/// Bytes that values take in JSON at least.
const MIN_NUMBER: u64 = 1;
const MIN_BOOL: u64 = 4;
const MIN_TEXT: u64 = 2;
const MIN_DURATION: u64 = 3;
const MIN_DATE: u64 = 12;
const MIN_MOMENT: u64 = 21;

/// A type and how many bytes a value of it takes in JSON at least.
#[derive(Clone, Debug)]
pub(crate) struct Sized {
    pub(crate) ty: Type,
    pub(crate) min: u64,
}

impl Sized {
    /// How often such a value can stand in one request.
    pub(crate) fn most(&self) -> u64 {
        REQUEST / (self.min + 1)
    }
}

/// The type of values of `schema`; `None` when expressions cannot see them. `root` is for a whole object, whose kind,
/// version and name are always there.
pub fn schema_type(schema: &Json, root: bool) -> Option<Type> {
    sized(schema, root).map(|sized| sized.ty)
}

pub(crate) fn sized(schema: &Json, root: bool) -> Option<Sized> {
    if schema["x-kubernetes-int-or-string"] == true {
        let max = schema["maxLength"].as_u64().map_or(REQUEST - 2, |length| length.saturating_mul(4));
        return Some(Sized { ty: Type::Dyn(Max(max)), min: MIN_NUMBER });
    }
    let whole = root || schema["x-kubernetes-embedded-resource"] == true;
    match schema["type"].as_str().unwrap_or(if whole { "object" } else { "" }) {
        "array" => list(schema),
        "object" if schema["additionalProperties"].is_object() => map(schema),
        "object" => Some(object(schema, whole)),
        "string" => Some(text(schema)),
        "boolean" => Some(Sized { ty: Type::Bool, min: MIN_BOOL }),
        "number" => Some(Sized { ty: Type::Double, min: MIN_NUMBER }),
        "integer" => Some(Sized { ty: Type::Int, min: MIN_NUMBER }),
        _ => None,
    }
}

fn list(schema: &Json) -> Option<Sized> {
    let element = sized(&schema["items"], false)?;
    let max = schema["maxItems"].as_u64().unwrap_or((REQUEST - 2) / (element.min + 1));
    let keys = || {
        let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        keys.filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let kind = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(keys()),
        _ => ListKind::Atomic,
    };
    let ty = Type::List(Arc::new(ListType { element: element.ty, kind, max: Max(max) }));
    Some(Sized { ty, min: MIN_TEXT })
}

fn map(schema: &Json) -> Option<Sized> {
    let value = sized(&schema["additionalProperties"], false)?;
    // Beside the value: quotes, a colon, a comma, and a key of two bytes.
    let max = schema["maxProperties"].as_u64().unwrap_or((REQUEST - 2) / (value.min + 6));
    // Upstream's estimates take keys to have no length: definitions such as those of Gateway API rely on it.
    let key = STRING.with_max(0);
    Some(Sized { ty: Type::map(key, value.ty).with_max(max), min: MIN_TEXT })
}

fn object(schema: &Json, whole: bool) -> Sized {
    let mut fields = BTreeMap::new();
    let mut min = 2;
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|required| required.iter().any(|field| field == name))
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some(field) = sized(property, false) else { continue };
        if required(name) && property["default"].is_null() {
            min += name.len() as u64 + field.min + 4;
        }
        if escape(name).is_some() {
            fields.insert(name.clone(), field.ty);
        }
    }
    if whole {
        let meta = json!({"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}});
        let text = json!({"type": "string"});
        for (name, schema) in [("kind", &text), ("apiVersion", &text), ("metadata", &meta)] {
            fields.extend(sized(schema, false).map(|field| (name.to_owned(), field.ty)));
        }
    }
    let ty = Type::Object(Arc::new(ObjectType { name: "object".to_owned(), fields, plain: false }));
    Sized { ty, min }
}

fn text(schema: &Json) -> Sized {
    let length = schema["maxLength"].as_u64();
    match schema["format"].as_str() {
        Some("byte") => Sized { ty: Type::Bytes(Max(length.unwrap_or(REQUEST - 2))), min: MIN_TEXT },
        Some("duration") => Sized { ty: Type::Duration, min: MIN_DURATION },
        Some("date") => Sized { ty: Type::Timestamp, min: MIN_DATE },
        Some("date-time") => Sized { ty: Type::Timestamp, min: MIN_MOMENT },
        _ => {
            // A character takes up to four bytes.
            let bounded = length.map(|length| length.saturating_mul(4));
            let listed = schema["enum"].as_array().filter(|values| !values.is_empty());
            let longest =
                listed.and_then(|values| values.iter().filter_map(Json::as_str).map(str::len).max());
            let max = bounded.or(longest.map(|length| length as u64)).unwrap_or(REQUEST - 2);
            Sized { ty: STRING.with_max(max), min: MIN_TEXT }
        }
    }
}
