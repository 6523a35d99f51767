//! A message as a JSON value, guided by the shape of its type.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::meta;
use carrack_api::schema::{ObjectType, Shape, TypeId, registry};
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::ProtobufError;
use super::numbers::{self, Entry, Numbers};
use super::wire::{Reader, Wire, text};

/// Deepest nesting of messages; the JSON that comes out is bounded alike.
/// Schemas of custom resources take the most, with four levels for each of theirs.
const MAX_DEPTH: usize = 220;

/// Turns a message of an object type into a JSON object.
pub(super) fn message(bytes: &[u8], shape: &Shape) -> Result<Value, ProtobufError> {
    object(bytes, shape, 0)
}

fn object(bytes: &[u8], shape: &Shape, depth: usize) -> Result<Value, ProtobufError> {
    let Shape::Object(id) = shape else { return Err(ProtobufError::UnknownType) };
    let kind = registry().get(*id);
    let mut out = Map::new();
    match numbers::of(kind) {
        Some(numbers) => fields(bytes, kind, numbers, &mut out, depth)?,
        // A type without fields needs no row.
        None if kind.fields.is_empty() => {}
        None => return Err(ProtobufError::UnknownType),
    }
    Ok(out.into())
}

/// Reads the fields of a message into `out`. Unknown numbers are those of newer clients: skipped, as protobuf wants.
fn fields(
    bytes: &[u8],
    kind: &'static ObjectType,
    numbers: &Numbers,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (numbers.get(&number), wire) {
            (None, _) => {}
            (Some(Entry::Inline(inner)), Wire::Bytes(bytes)) => fields(bytes, kind, inner, out, depth + 1)?,
            (Some(Entry::Inline(_)), _) => return Err(ProtobufError::Malformed),
            (Some(Entry::Field { name, zero_counts, wrapped }), wire) => {
                let Some(field) = kind.field(name) else { continue };
                let wire = if *wrapped { unwrapped(wire)? } else { wire };
                add(out, name, *zero_counts, &field.shape, wire, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// What stands in field 1 of a message, which has no other.
fn unwrapped(wire: Wire<'_>) -> Result<Wire<'_>, ProtobufError> {
    let Wire::Bytes(bytes) = wire else { return Err(ProtobufError::Malformed) };
    let mut reader = Reader::new(bytes);
    let mut found = Wire::Bytes(&[]);
    while let Some((number, wire)) = reader.field()? {
        if number != 1 {
            return Err(ProtobufError::UnknownType);
        }
        found = wire;
    }
    Ok(found)
}

/// Adds one occurrence of a field.
fn add(
    out: &mut Map<String, Value>,
    name: &str,
    zero_counts: bool,
    shape: &Shape,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtobufError> {
    match shape {
        Shape::List(items) => {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                push(list, items, wire, depth)?;
            }
        }
        Shape::Map(values) => {
            let Wire::Bytes(bytes) = wire else { return Err(ProtobufError::Malformed) };
            let (key, value) = entry(bytes, values, depth)?;
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
        }
        _ => {
            let value = single(shape, wire, depth)?;
            let is_unset = match &value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Bool(value) => !value,
                Value::Number(number) => number.as_i64() == Some(0),
                _ => false,
            };
            if !is_unset || (zero_counts && !value.is_null()) {
                out.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Appends an element of a list, or all elements of a packed one.
fn push(list: &mut Vec<Value>, items: &Shape, wire: Wire<'_>, depth: usize) -> Result<(), ProtobufError> {
    match (items, wire) {
        (Shape::Int32 | Shape::Int64 | Shape::Bool, Wire::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            while let Some(number) = reader.packed()? {
                list.push(single(items, Wire::Varint(number), depth)?);
            }
        }
        _ => list.push(single(items, wire, depth)?),
    }
    Ok(())
}

/// An entry of a map: the key is field 1, the value field 2.
fn entry(bytes: &[u8], values: &Shape, depth: usize) -> Result<(String, Value), ProtobufError> {
    let mut key = String::new();
    let mut value = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?.to_owned(),
            (2, wire) => value = Some(single(values, wire, depth)?),
            _ => {}
        }
    }
    // A value that is not there is the zero of its type.
    let value = value.map_or_else(|| single(values, Wire::Bytes(&[]), depth), Ok)?;
    Ok((key, value))
}

/// One value. `Null` stands for an empty time.
fn single(shape: &Shape, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    match (shape, wire) {
        (Shape::Bool, Wire::Varint(number)) => Ok((number != 0).into()),
        // Negative numbers are sign-extended to 64 bits on the wire.
        (Shape::Int32 | Shape::Int64, Wire::Varint(number)) => Ok(number.cast_signed().into()),
        (Shape::Number, Wire::Fixed64(bits)) => Ok(float(f64::from_bits(bits))),
        (Shape::Text, Wire::Bytes(bytes)) => Ok(text(bytes)?.into()),
        (Shape::Bytes, Wire::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (Shape::Object(_), Wire::Bytes(bytes)) => object(bytes, shape, depth + 1),
        (Shape::ObjectOrBool(id), Wire::Bytes(bytes)) => object_or_bool(bytes, *id, depth),
        (Shape::Quantity, Wire::Bytes(bytes)) => quantity(bytes),
        (Shape::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes),
        (Shape::Time, Wire::Bytes(bytes)) => time(bytes, meta::format_time),
        (Shape::MicroTime, Wire::Bytes(bytes)) => time(bytes, meta::format_micro_time),
        (Shape::Any, Wire::Bytes(bytes)) => embedded(bytes),
        // Lists as values of maps are messages of their own, with the items in field 1.
        (Shape::List(items), Wire::Bytes(bytes)) => {
            let mut list = Vec::new();
            let mut reader = Reader::new(bytes);
            while let Some((number, wire)) = reader.field()? {
                if number == 1 {
                    push(&mut list, items, wire, depth + 1)?;
                }
            }
            Ok(list.into())
        }
        _ => Err(ProtobufError::Malformed),
    }
}

/// A floating-point number, as JSON writes whole ones: without a fraction.
fn float(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        return (number as i64).into();
    }
    Number::from_f64(number).into()
}

/// `JSONSchemaPropsOrBool`: a switch in field 1, or an object in field 2.
fn object_or_bool(bytes: &[u8], id: TypeId, depth: usize) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut found = Value::Bool(false);
    while let Some(field) = reader.field()? {
        match field {
            (1, Wire::Varint(number)) if !found.is_object() => found = (number != 0).into(),
            (2, Wire::Bytes(bytes)) => found = object(bytes, &Shape::Object(id), depth + 1)?,
            _ => {}
        }
    }
    Ok(found)
}

/// `resource.Quantity`: its text in field 1.
fn quantity(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut found = "0";
    while let Some((number, wire)) = reader.field()? {
        if let (1, Wire::Bytes(bytes)) = (number, wire) {
            found = text(bytes)?;
        }
    }
    Ok(found.into())
}

/// `intstr.IntOrString`: which of the two in field 1, the number in 2, the text in 3.
fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut string) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => string = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

/// A time: seconds in field 1, nanoseconds in field 2. An empty message is Go's zero time.
fn time(bytes: &[u8], format: fn(Timestamp) -> String) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            (2, Wire::Varint(value)) => nanos = value.cast_signed(),
            _ => {}
        }
    }
    let nanos = i32::try_from(nanos).map_err(|_| ProtobufError::Time)?;
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Time)?;
    Ok(format(time).into())
}

/// `RawExtension` and `FieldsV1`: JSON text in field 1.
fn embedded(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut raw: &[u8] = &[];
    while let Some(field) = reader.field()? {
        if let (1, Wire::Bytes(bytes)) = field {
            raw = bytes;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(raw).map_err(|e| ProtobufError::Json(e.to_string()))
}
