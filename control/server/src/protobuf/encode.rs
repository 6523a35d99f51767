//! Objects as protobuf messages: the other way of `message`, by the same table.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::Resource;
use carrack_api::schema::{ObjectType, Shape, TypeRef, bodies, registry};
use carrack_api::{resources, wire};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::MAGIC;
use super::numbers::{self, Entry, Numbers};

/// Deepest nesting that is written; objects in the store are bounded alike.
const MAX_DEPTH: usize = 220;

/// An object with its envelope; `None` when its kind has no message.
pub(crate) fn object(value: &Value) -> Option<Vec<u8>> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    Some(envelope(api_version, kind, &raw(value, api_version, kind)?))
}

/// An object of a resource, or a list of such, without its envelope.
fn raw(value: &Value, api_version: &str, kind: &str) -> Option<Vec<u8>> {
    let fields = value.as_object()?;
    if kind.starts_with("PartialObjectMetadata") {
        return Some(metadata_only(fields));
    }
    if let Some(of) = type_of(api_version, kind) {
        return message(value, &of.shape());
    }
    let row = resources().iter().find(|r| r.list_kind == kind && r.api_version == api_version)?;
    let items = fields.get("items").and_then(Value::as_array)?;
    let mut out = Vec::new();
    list_metadata(&mut out, fields.get("metadata")?)?;
    for item in items {
        wire::bytes(&mut out, 2, &item_of(row, item)?);
    }
    Some(out)
}

/// The type of a kind.
fn type_of(api_version: &str, kind: &str) -> Option<TypeRef> {
    let row = resources().iter().find(|r| r.kind == kind && r.api_version == api_version);
    let body = || {
        let group = api_version.split_once('/').map_or("core", |(group, _)| group);
        let group = if kind == "Status" { "meta" } else { group.split('.').next().unwrap_or_default() };
        bodies::ALL.iter().copied().find(|of| of.name.ends_with(&format!("{group}.v1.{kind}")))
    };
    row.map(|row| row.schema).or_else(body)
}

/// One object as the item of a list, without an envelope.
pub(crate) fn item_of(resource: &Resource, value: &Value) -> Option<Vec<u8>> {
    message(value, &resource.schema.shape())
}

/// The parts of a list whose items are there as messages: its envelope and metadata, then for each item the head of its
/// field and itself.
pub(crate) fn list(
    resource: &Resource,
    metadata: &Value,
    items: Vec<bytes::Bytes>,
) -> Option<Vec<bytes::Bytes>> {
    let mut opening = Vec::new();
    list_metadata(&mut opening, metadata)?;
    let heads: Vec<Vec<u8>> = items
        .iter()
        .map(|item| {
            let mut head = Vec::with_capacity(6);
            wire::length(&mut head, 2, item.len());
            head
        })
        .collect();
    let total = opening.len()
        + heads.iter().map(Vec::len).sum::<usize>()
        + items.iter().map(|i| i.len()).sum::<usize>();
    let mut first = head(resource.api_version, resource.list_kind);
    wire::length(&mut first, 2, total);
    first.extend_from_slice(&opening);
    let mut parts = vec![bytes::Bytes::from(first)];
    for (head, item) in heads.into_iter().zip(items) {
        parts.push(head.into());
        parts.push(item);
    }
    parts.push(tail().into());
    Some(parts)
}

/// A frame of a watch: its length in four bytes, then a `WatchEvent` that holds an object with its envelope.
pub(crate) fn watch_event(kind: &str, object: &Value) -> Option<Vec<u8>> {
    let content = self::object(object)?;
    let mut event = Vec::with_capacity(content.len() + 32);
    wire::bytes(&mut event, 1, kind.as_bytes());
    wire::message(&mut event, 2, |out| wire::bytes(out, 1, &content));
    let mut frame = u32::try_from(event.len()).ok()?.to_be_bytes().to_vec();
    frame.extend_from_slice(&event);
    Some(frame)
}

/// The start of an envelope, up to its message.
fn head(api_version: &str, kind: &str) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    wire::message(&mut out, 1, |out| {
        wire::bytes(out, 1, api_version.as_bytes());
        wire::bytes(out, 2, kind.as_bytes());
    });
    out
}

/// The end of an envelope: no encoding, no content type.
fn tail() -> Vec<u8> {
    let mut out = Vec::new();
    wire::bytes(&mut out, 3, b"");
    wire::bytes(&mut out, 4, b"");
    out
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = head(api_version, kind);
    wire::bytes(&mut out, 2, raw);
    out.extend(tail());
    out
}

fn meta_type(name: &str) -> Option<Shape> {
    registry().find(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")).map(Shape::Object)
}

fn list_metadata(out: &mut Vec<u8>, metadata: &Value) -> Option<()> {
    wire::bytes(out, 1, &message(metadata, &meta_type("ListMeta")?)?);
    Some(())
}

/// `PartialObjectMetadata` or a list of them.
fn metadata_only(fields: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    let metadata = fields.get("metadata");
    let items = fields.get("items").and_then(Value::as_array);
    let kind = if items.is_some() { "ListMeta" } else { "ObjectMeta" };
    if let (Some(metadata), Some(shape)) = (metadata, meta_type(kind)) {
        wire::bytes(&mut out, 1, &message(metadata, &shape).unwrap_or_default());
    }
    for item in items.into_iter().flatten().filter_map(Value::as_object) {
        wire::bytes(&mut out, 2, &metadata_only(item));
    }
    out
}

/// A value of an object type as a message; `None` when the table does not know the type.
fn message(value: &Value, shape: &Shape) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write_object(&mut out, value, shape, 0)?;
    Some(out)
}

fn write_object(out: &mut Vec<u8>, value: &Value, shape: &Shape, depth: usize) -> Option<()> {
    let (Shape::Object(id), Value::Object(members)) = (shape, value) else { return None };
    if depth > MAX_DEPTH {
        return None;
    }
    let kind = registry().get(*id);
    match numbers::of(kind) {
        Some(numbers) => write_fields(out, members, kind, numbers, depth),
        // A type without fields needs no row.
        None => kind.fields.is_empty().then_some(()),
    }
}

fn write_fields(
    out: &mut Vec<u8>,
    members: &Map<String, Value>,
    kind: &'static ObjectType,
    numbers: &Numbers,
    depth: usize,
) -> Option<()> {
    let mut sorted: Vec<(&u32, &Entry)> = numbers.iter().collect();
    sorted.sort_unstable_by_key(|(number, _)| **number);
    for (number, entry) in sorted {
        match entry {
            Entry::Inline(inner) => {
                let mut content = Vec::new();
                write_fields(&mut content, members, kind, inner, depth + 1)?;
                // Go reads a part that is not there as an empty one.
                if !content.is_empty() {
                    wire::bytes(out, *number, &content);
                }
            }
            Entry::Field { name, wrapped, .. } => {
                let Some((value, field)) = members.get(*name).zip(kind.field(name)) else { continue };
                if *wrapped && !value.is_null() {
                    let mut inner = Vec::new();
                    write(&mut inner, 1, value, &field.shape, depth + 1)?;
                    wire::bytes(out, *number, &inner);
                } else {
                    write(out, *number, value, &field.shape, depth + 1)?;
                }
            }
        }
    }
    Some(())
}

/// One field. Values that do not fit their shape cannot be stored; what cannot be written makes the whole fail.
fn write(out: &mut Vec<u8>, number: u32, value: &Value, shape: &Shape, depth: usize) -> Option<()> {
    if value.is_null() {
        return Some(());
    }
    match (shape, value) {
        (Shape::List(items), Value::Array(list)) => {
            for item in list {
                write(out, number, item, items, depth)?;
            }
        }
        (Shape::Map(values), Value::Object(map)) => {
            for (key, value) in map {
                let mut entry = Vec::new();
                wire::bytes(&mut entry, 1, key.as_bytes());
                match (&**values, value) {
                    // Lists as values of maps are messages of their own, with the items in field 1.
                    (list @ Shape::List(_), value) => {
                        let mut inner = Vec::new();
                        write(&mut inner, 1, value, list, depth + 1)?;
                        wire::bytes(&mut entry, 2, &inner);
                    }
                    (shape, value) => write(&mut entry, 2, value, shape, depth + 1)?,
                }
                wire::bytes(out, number, &entry);
            }
        }
        (Shape::Object(_), _) => {
            let mut inner = Vec::new();
            write_object(&mut inner, value, shape, depth)?;
            wire::bytes(out, number, &inner);
        }
        (Shape::ObjectOrBool(_), Value::Bool(allows)) => {
            wire::message(out, number, |out| wire::number(out, 1, u64::from(*allows)));
        }
        (Shape::ObjectOrBool(id), _) => {
            // Go writes the switch in every case, and a schema means that there are other keys.
            let mut inner = Vec::new();
            wire::number(&mut inner, 1, 1);
            write(&mut inner, 2, value, &Shape::Object(*id), depth)?;
            wire::bytes(out, number, &inner);
        }
        (Shape::Any, _) => {
            wire::message(out, number, |out| wire::bytes(out, 1, value.to_string().as_bytes()))
        }
        (Shape::Bool, Value::Bool(value)) => wire::number(out, number, u64::from(*value)),
        (Shape::Int32 | Shape::Int64, Value::Number(value)) => {
            wire::number(out, number, value.as_i64()?.cast_unsigned());
        }
        (Shape::Number, Value::Number(value)) => wire::double(out, number, value.as_f64()?),
        (Shape::IntOrString, Value::Number(value)) => {
            let value = value.as_i64()?.cast_unsigned();
            wire::message(out, number, |out| {
                wire::number(out, 1, 0);
                wire::number(out, 2, value);
            });
        }
        (Shape::IntOrString, Value::String(text)) => wire::message(out, number, |out| {
            wire::number(out, 1, 1);
            wire::bytes(out, 3, text.as_bytes());
        }),
        (Shape::Quantity, Value::String(text)) => {
            wire::message(out, number, |out| wire::bytes(out, 1, text.as_bytes()));
        }
        (Shape::Bytes, Value::String(text)) => wire::bytes(out, number, &STANDARD.decode(text).ok()?),
        (Shape::Time | Shape::MicroTime, Value::String(text)) => {
            let time: Timestamp = text.parse().ok()?;
            wire::message(out, number, |out| {
                wire::number(out, 1, time.as_second().cast_unsigned());
                wire::number(out, 2, i64::from(time.subsec_nanosecond()).cast_unsigned());
            });
        }
        (Shape::Text, Value::String(text)) => wire::bytes(out, number, text.as_bytes()),
        _ => return None,
    }
    Some(())
}

/// The media type of a watch.
pub(crate) const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
