//! The reader that follows a shape: makes a value of any serde source and notes what is wrong on the way.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::notes::{Failure, Notes};
use super::{DecodeError, Decoded, Empty, MAX_DEPTH, StrictProblem};
use crate::quantity;
use crate::schema::{Field, Shape, registry};

/// Reads one value of `shape` from `source`.
pub(super) fn run<'de, D>(source: D, shape: &Shape, empty: Empty) -> Result<Decoded, Failure>
where
    D: Deserializer<'de>,
{
    let mut notes = Notes::new(registry(), empty);
    let read = Seed { shape, notes: &mut notes }.deserialize(source);
    notes.finish(read, shape)
}

/// Reads one YAML document of `shape`.
pub(super) fn run_yaml(body: &[u8], shape: &Shape, empty: Empty) -> Result<Decoded, DecodeError> {
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let mut notes = Notes::new(registry(), empty);
    let read = serde_saphyr::with_deserializer_from_slice_with_options(body, options, |source| {
        Seed { shape, notes: &mut notes }.deserialize(source)
    });
    notes.finish(read, shape).map_err(Failure::into_decode_error)
}

struct Seed<'n, 'r, 's> {
    shape: &'s Shape,
    notes: &'n mut Notes<'r>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_, '_> {
    /// `None` stands for null, which means absent.
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl Seed<'_, '_, '_> {
    fn scalar<E>(self, value: Value, found: &str) -> Result<Option<Value>, E> {
        let Seed { shape, notes } = self;
        let fits = match (shape, &value) {
            (Shape::Any, _)
            | (Shape::Bool | Shape::ObjectOrBool(_), Value::Bool(_))
            | (Shape::Number, Value::Number(_)) => true,
            (Shape::IntOrString, Value::Number(n)) => fits_int32(n),
            (Shape::Int32, Value::Number(n)) => fits_int32(n),
            (Shape::Int64, Value::Number(n)) => n.as_i64().is_some(),
            (Shape::Quantity, Value::Number(n)) => {
                return Ok(canonical_quantity(&n.to_string(), notes));
            }
            _ => false,
        };
        if fits {
            return Ok(Some(value));
        }
        let integer = matches!(shape, Shape::Int32 | Shape::Int64 | Shape::IntOrString);
        match &value {
            Value::Number(n) if integer => notes.mismatch(&format!("number {n}"), shape),
            _ => notes.mismatch(found, shape),
        }
        Ok(None)
    }

    fn text<E>(self, text: String) -> Result<Option<Value>, E> {
        let Seed { shape, notes } = self;
        Ok(match shape {
            Shape::Text | Shape::Any | Shape::IntOrString => Some(text.into()),
            Shape::Bytes => check_base64(text, notes),
            Shape::Quantity => canonical_quantity(&text, notes),
            Shape::Time => canonical_time(&text, "%Y-%m-%dT%H:%M:%SZ", notes),
            Shape::MicroTime => canonical_time(&text, "%Y-%m-%dT%H:%M:%S.%6fZ", notes),
            _ => {
                notes.mismatch("string", shape);
                None
            }
        })
    }
}

fn fits_int32(number: &Number) -> bool {
    number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
}

fn check_base64(text: String, notes: &mut Notes<'_>) -> Option<Value> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    // Go's decoder skips line ends inside base64; the stored form has none.
    let text = if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], "") } else { text };
    match STANDARD.decode(&text) {
        Ok(_) => Some(text.into()),
        Err(base64::DecodeError::InvalidByte(at, _)) => {
            notes.refuse(format!("illegal base64 data at input byte {at}"));
            None
        }
        Err(_) => {
            notes.refuse(format!("illegal base64 data at input byte {}", text.len().saturating_sub(1)));
            None
        }
    }
}

fn canonical_quantity(text: &str, notes: &mut Notes<'_>) -> Option<Value> {
    match quantity::Quantity::parse(text) {
        Ok(quantity) => Some(quantity.to_string().into()),
        Err(why) => {
            notes.refuse(why.to_string());
            None
        }
    }
}

fn canonical_time(text: &str, format: &str, notes: &mut Notes<'_>) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    let parsed = text.parse::<jiff::Timestamp>().and_then(|time| jiff::fmt::strtime::format(format, time));
    match parsed {
        Ok(canonical) => Some(canonical.into()),
        Err(_) => {
            notes.refuse(format!(
                "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as an RFC 3339 time"
            ));
            None
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        // Without a type null has a meaning of its own: merge patches delete with it.
        Ok(matches!(self.shape, Shape::Any).then_some(Value::Null))
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        self.scalar(Value::Bool(value), "bool")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        self.scalar(value.into(), "number")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        self.scalar(value.into(), "number")
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        self.scalar(value.into(), "number")
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        self.text(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Self::Value, A::Error> {
        let Seed { shape, notes } = self;
        let of = match shape {
            Shape::List(of) => &**of,
            Shape::Any => &Shape::Any,
            _ => {
                notes.mismatch("array", shape);
                while source.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
        };
        enter::<A::Error>(notes)?;
        let mut out = Vec::new();
        loop {
            let next =
                notes.at_entry(out.len(), |notes| source.next_element_seed(Seed { shape: of, notes }))?;
            let Some(value) = next else { break };
            out.push(value.unwrap_or_else(|| zero(of)));
        }
        notes.depth -= 1;
        Ok(Some(out.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Self::Value, A::Error> {
        let Seed { shape, notes } = self;
        enter::<A::Error>(notes)?;
        let out = match shape {
            Shape::Object(id) | Shape::ObjectOrBool(id) => {
                let outer = notes.within;
                let out = read_object(&mut source, notes.registry.get(*id), notes)?;
                notes.within = outer;
                out
            }
            Shape::Map(of) => read_map(&mut source, of, notes)?,
            Shape::Any => read_map(&mut source, &Shape::Any, notes)?,
            _ => {
                notes.mismatch("object", shape);
                while source.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                notes.depth -= 1;
                return Ok(None);
            }
        };
        notes.depth -= 1;
        Ok(Some(out.into()))
    }
}

fn enter<E: serde::de::Error>(notes: &mut Notes<'_>) -> Result<(), E> {
    notes.depth += 1;
    if notes.depth > MAX_DEPTH {
        notes.too_deep = true;
        return Err(E::custom("exceeded max depth"));
    }
    Ok(())
}

/// What Go has in place of a null element of a list or map.
pub(super) fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Object(_) | Shape::ObjectOrBool(_) | Shape::Map(_) => Map::new().into(),
        Shape::List(_) => Vec::<Value>::new().into(),
        Shape::Text | Shape::Bytes => "".into(),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Bool => false.into(),
        Shape::Quantity => "0".into(),
        Shape::Time | Shape::MicroTime | Shape::Any => Value::Null,
    }
}

fn read_object<'de, 'r, A: MapAccess<'de>>(
    source: &mut A,
    object: &'r crate::schema::ObjectType,
    notes: &mut Notes<'r>,
) -> Result<Map<String, Value>, A::Error> {
    let mut out = Map::new();
    // One bit a field seen, nulls included; no type has more fields than bits.
    let mut seen = [0u64; 4];
    while let Some(key) = source.next_key::<Key<'de>>()? {
        let key = key.0;
        let found = object.fields.binary_search_by(|f| (*f.name).cmp(&*key));
        let Ok(at) = found else {
            let path = notes.joined(&key);
            notes.note(StrictProblem::UnknownField(path));
            source.next_value::<IgnoredAny>()?;
            continue;
        };
        let (word, bit) = (at / 64 % 4, 1u64 << (at % 64));
        if seen[word] & bit != 0 {
            let path = notes.joined(&key);
            notes.note(StrictProblem::DuplicateField(path));
        }
        seen[word] |= bit;
        let field = &object.fields[at];
        notes.within = Some(&object.go_name);
        notes.fields.push(&field.name);
        let value =
            notes.at_field(&key, |notes| source.next_value_seed(Seed { shape: &field.shape, notes }))?;
        notes.fields.pop();
        match value.filter(|value| notes.empty == Empty::Kept || !is_nothing(value, field)) {
            Some(value) => out.insert(key.into_owned(), value),
            None => out.remove(&*key),
        };
    }
    Ok(out)
}

/// Whether Go's encoder leaves a value out: a list or map of nothing that an object need not have.
fn is_nothing(value: &Value, field: &Field) -> bool {
    let empty = match (&field.shape, value) {
        (Shape::List(_), Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(entries)) => entries.is_empty(),
        _ => false,
    };
    // Of an autoscaler, no policies is another thing than not a word about them: it is refused.
    empty && !field.required && &*field.name != "policies"
}

/// Drops from a value of `shape` what [`Empty::Dropped`] drops while a value is read.
pub(crate) fn drop_nothing(value: &mut Value, shape: &Shape) {
    match (shape, value) {
        (Shape::Object(id) | Shape::ObjectOrBool(id), Value::Object(fields)) => {
            let of = registry().get(*id);
            fields.retain(|name, value| {
                let Some(field) = of.field(name) else { return true };
                drop_nothing(value, &field.shape);
                !is_nothing(value, field)
            });
        }
        (Shape::List(of), Value::Array(entries)) => {
            entries.iter_mut().for_each(|entry| drop_nothing(entry, of));
        }
        (Shape::Map(of), Value::Object(entries)) => {
            entries.values_mut().for_each(|entry| drop_nothing(entry, of));
        }
        _ => {}
    }
}

fn read_map<'de, A: MapAccess<'de>>(
    source: &mut A,
    of: &Shape,
    notes: &mut Notes<'_>,
) -> Result<Map<String, Value>, A::Error> {
    let mut out = Map::new();
    while let Some(key) = source.next_key::<Key<'de>>()? {
        let key = key.0;
        if out.contains_key(&*key) {
            let path = notes.joined(&key);
            notes.note(StrictProblem::DuplicateField(path));
        }
        let value = notes.at_field(&key, |notes| source.next_value_seed(Seed { shape: of, notes }))?;
        out.insert(key.into_owned(), value.unwrap_or_else(|| zero(of)));
    }
    Ok(out)
}

/// A key, borrowed where the source allows it.
struct Key<'de>(std::borrow::Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(text.to_owned().into()))
            }
            fn visit_string<E>(self, text: String) -> Result<Key<'de>, E> {
                Ok(Key(text.into()))
            }
        }
        source.deserialize_str(KeyVisitor)
    }
}
