//! The values of expressions. What comes from JSON stays there: a list or an object is a reference, and its parts become
//! values when they are asked for.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::Value as Json;

use crate::error::EvalError;
use crate::escape::unescape;
use crate::meter::MEMORY;
use crate::opaque::Opaque;
use crate::times;
use crate::types::{DYN_REF, ListKind, Type};

/// Text that is borrowed or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Part of the input.
    Ref(&'a str),
    /// Made by the expression.
    Own(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Ref(text) => text,
            Text::Own(text) => text,
        }
    }
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// A truth.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A span of time in nanoseconds.
    Duration(i64),
    /// A moment.
    Timestamp(jiff::Timestamp),
    /// A list.
    List(List<'a>),
    /// A map, or an object.
    Map(Map<'a>),
    /// A value that may be missing.
    Optional(Option<Arc<Value<'a>>>),
    /// The name of a type.
    Type(Arc<str>),
    /// A value of one of the libraries.
    Opaque(Opaque),
}

/// A list in JSON or of values.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Elements in JSON and the type of the list.
    Json(&'a [Json], &'a Type),
    /// Elements.
    Own(Arc<Vec<Value<'a>>>),
}

/// A map in JSON or of values.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Entries in JSON and the type of the map or object.
    Json(&'a serde_json::Map<String, Json>, &'a Type),
    /// Entries.
    Own(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// An object that the expression made: the name of its type, and its fields.
    Made(&'a str, Arc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// What a map can be looked up by. Numbers of different types that are equal are the same key.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    /// A truth.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// Text.
    String(Text<'a>),
}

impl<'a> Key<'a> {
    /// The key that a value is.
    pub(crate) fn of(value: &Value<'a>) -> Option<Key<'a>> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => Key::Uint(*value),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9e18 => Key::Int(*value as i64),
            Value::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }

    /// The value that a key is.
    pub(crate) fn value(&self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(text) => Value::String(text.clone()),
        }
    }

    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Key::Bool(value) => (0, i128::from(*value), ""),
            Key::Int(value) => (1, i128::from(*value), ""),
            Key::Uint(value) => (1, i128::from(*value), ""),
            Key::String(text) => (2, 0, text),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<'a> Value<'a> {
    /// Text made by an expression.
    pub fn text(text: impl Into<Arc<str>>) -> Value<'a> {
        Value::String(Text::Own(text.into()))
    }

    /// A list of values.
    pub fn list(values: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Own(Arc::new(values)))
    }

    /// A value that is there.
    pub(crate) fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// A value of JSON, typed as its schema says. Text that should be a time, a duration or base64 and is not is an
    /// error.
    pub fn json(json: &'a Json, ty: &'a Type) -> Result<Value<'a>, EvalError> {
        Ok(match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (ty, number.as_i64()) {
                (Type::Double, _) | (_, None) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
                (_, Some(whole)) => Value::Int(whole),
            },
            Json::String(text) => return string(text, ty),
            Json::Array(elements) => Value::List(List::Json(elements, ty)),
            Json::Object(entries) => Value::Map(Map::Json(entries, ty)),
        })
    }

    /// A value of JSON whose schema is not known.
    pub fn untyped(json: &'a Json) -> Value<'a> {
        // Nothing but a type can make this fail.
        Value::json(json, &DYN_REF).unwrap_or(Value::Null)
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::List(_) => "list",
            Value::Map(Map::Json(_, Type::Object(object))) => &object.name,
            Value::Map(Map::Made(name, _)) => name,
            Value::Map(_) => "map",
            Value::Optional(_) => "optional_type",
            Value::Type(_) => "type",
            Value::Opaque(opaque) => opaque.kind().name(),
        }
    }

    /// What `size()` says: characters, bytes, elements or entries; 1 for all else.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            // Counting characters would read all of it; upstream's costs count them, and most are one byte.
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            Value::Opaque(opaque) => opaque.size(),
            _ => 1,
        };
        size as u64
    }

    /// The value as JSON, to be stored; an error when it would be larger than [`MEMORY`]: a list can hold another one
    /// many times without being large itself.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        let mut left = MEMORY;
        self.write(&mut left)
    }

    fn write(&self, left: &mut usize) -> Result<Json, EvalError> {
        pay(left, PART)?;
        Ok(match self {
            Value::Null | Value::Optional(None) => Json::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Uint(value) => (*value).into(),
            Value::Double(value) => serde_json::Number::from_f64(*value)
                .map(Json::Number)
                .ok_or_else(|| EvalError::other("a number that is not finite has no form in JSON"))?,
            Value::String(text) => {
                pay(left, text.len())?;
                Json::String(text.to_string())
            }
            Value::Bytes(bytes) => {
                pay(left, bytes.len() * 2)?;
                base64::engine::general_purpose::STANDARD.encode(bytes).into()
            }
            Value::Duration(nanos) => times::show_duration(*nanos).into(),
            Value::Timestamp(when) => when.to_string().into(),
            Value::List(List::Json(elements, _)) => {
                elements.iter().try_for_each(|element| weigh(element, left))?;
                Json::Array(elements.to_vec())
            }
            Value::List(List::Own(elements)) => {
                elements.iter().map(|element| element.write(left)).collect::<Result<Vec<_>, _>>()?.into()
            }
            Value::Map(Map::Json(entries, _)) => {
                entries.values().try_for_each(|value| weigh(value, left))?;
                Json::Object((*entries).clone())
            }
            Value::Map(Map::Own(entries) | Map::Made(_, entries)) => entries_json(entries, left)?,
            Value::Optional(Some(value)) => return value.write(left),
            Value::Type(_) | Value::Opaque(_) => {
                return Err(EvalError::other(format!("{} has no form in JSON", self.type_name())));
            }
        })
    }
}

/// Bytes that a value takes beside its text.
const PART: usize = 48;

fn pay(left: &mut usize, bytes: usize) -> Result<(), EvalError> {
    *left = left.checked_sub(bytes).ok_or(EvalError::MemoryExceeded(MEMORY))?;
    Ok(())
}

/// Pays for a copy of a part of the input.
fn weigh(json: &Json, left: &mut usize) -> Result<(), EvalError> {
    pay(left, PART)?;
    match json {
        Json::String(text) => pay(left, text.len()),
        Json::Array(elements) => elements.iter().try_for_each(|element| weigh(element, left)),
        Json::Object(entries) => entries.iter().try_for_each(|(name, value)| {
            pay(left, name.len())?;
            weigh(value, left)
        }),
        _ => Ok(()),
    }
}

fn entries_json(entries: &BTreeMap<Key<'_>, Value<'_>>, left: &mut usize) -> Result<Json, EvalError> {
    let mut object = serde_json::Map::new();
    for (key, value) in entries {
        let Key::String(key) = key else {
            return Err(EvalError::other("a map with keys that are no text has no form in JSON"));
        };
        pay(left, key.len())?;
        object.insert(key.to_string(), value.write(left)?);
    }
    Ok(Json::Object(object))
}

fn string<'a>(text: &'a str, ty: &Type) -> Result<Value<'a>, EvalError> {
    let invalid = |what: &str| EvalError::other(format!("invalid {what}: {text:?}"));
    Ok(match ty {
        Type::Timestamp => Value::Timestamp(
            times::parse_timestamp(text)
                .or_else(|| times::parse_timestamp(&format!("{text}T00:00:00Z")))
                .ok_or_else(|| invalid("date-time"))?,
        ),
        Type::Duration => Value::Duration(times::parse_duration(text).ok_or_else(|| invalid("duration"))?),
        Type::Bytes(_) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            Value::Bytes(decoded.map_err(|_| invalid("base64"))?.into())
        }
        _ => Value::String(Text::Ref(text)),
    })
}

/// The type of elements or entries of a value of type `ty`.
fn inner(ty: &Type) -> &Type {
    match ty {
        Type::List(list) => &list.element,
        Type::Map(_, value, _) => value,
        _ => &DYN_REF,
    }
}

impl<'a> List<'a> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            List::Json(elements, _) => elements.len(),
            List::Own(elements) => elements.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            List::Json(elements, ty) => elements.get(index).map(|element| Value::json(element, inner(ty))),
            List::Own(elements) => elements.get(index).cloned().map(Ok),
        }
    }

    /// All elements.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// How it is compared.
    pub(crate) fn kind(&self) -> &ListKind {
        match self {
            List::Json(_, Type::List(list)) => &list.kind,
            _ => &ListKind::Atomic,
        }
    }
}

impl<'a> Map<'a> {
    /// How many entries there are; of an object, the fields that are set.
    pub fn len(&self) -> usize {
        match self {
            Map::Json(entries, _) => entries.len(),
            Map::Own(entries) | Map::Made(_, entries) => entries.len(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of a key.
    pub fn get(&self, key: &Key<'_>) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Map::Json(entries, ty) => {
                let Key::String(name) = key else { return None };
                entries.get(&**name).map(|value| Value::json(value, inner(ty)))
            }
            Map::Own(entries) | Map::Made(_, entries) => entries.get(key).cloned().map(Ok),
        }
    }

    /// The field that `.name` selects: an object's names are escaped in expressions.
    pub fn field(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Map::Json(entries, Type::Object(object)) => {
                let (key, ty) = object.field(name)?;
                entries.get(key).map(|value| Value::json(value, ty))
            }
            Map::Json(entries, ty) => {
                let value = entries.get(name).or_else(|| {
                    // The fields of objects without a schema can be written in their escaped form as well.
                    if ty.is_dyn() { unescape(name).and_then(|name| entries.get(&name)) } else { None }
                });
                value.map(|value| Value::json(value, inner(ty)))
            }
            Map::Own(_) | Map::Made(..) => self.get(&Key::String(Text::Ref(name))),
        }
    }

    /// The keys, in order.
    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Map::Json(entries, _) => entries.keys().map(|key| Key::String(Text::Ref(key))).collect(),
            Map::Own(entries) | Map::Made(_, entries) => entries.keys().cloned().collect(),
        }
    }
}
