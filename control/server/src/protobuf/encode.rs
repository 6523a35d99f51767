//! Objects as protobuf messages: the other way of `message`, by the same table. This file has the envelopes, lists and
//! events; what is in them is the work of `write`.

use bytes::Bytes;
use carrack_api::schema::{Shape, TypeRef, bodies, registry};
use carrack_api::{Resource, ResourceRef, resources, wire};
use serde_json::{Map, Value};

use super::MAGIC;
use super::write::Writer;
use crate::object::Stored;

/// About how many bytes of a list are put together in one piece.
const PIECE: usize = 64 * 1024;

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
fn item_of(resource: &Resource, value: &Value) -> Option<Vec<u8>> {
    message(value, &resource.schema.shape())
}

/// A list in the making, of objects as they are stored.
pub(crate) struct List {
    resource: ResourceRef,
    shape: Shape,
    writer: Writer,
    item: Vec<u8>,
    /// Items with the heads of their fields.
    pieces: Vec<Bytes>,
    piece: Vec<u8>,
}

impl List {
    /// An empty list of objects that are stored in the form of `resource`.
    pub(crate) fn new(resource: ResourceRef) -> List {
        let shape = resource.schema.shape();
        let piece = Vec::with_capacity(PIECE);
        List { resource, shape, writer: Writer::default(), item: Vec::new(), pieces: Vec::new(), piece }
    }

    /// Adds an item; `None` when the kind has no message.
    pub(crate) fn add(&mut self, stored: &Stored) -> Option<()> {
        self.item.clear();
        write_stored(&mut self.writer, &mut self.item, stored, &self.shape)?;
        self.add_item();
        Some(())
    }

    /// Adds an item that is not in the form in which it is stored.
    pub(crate) fn add_value(&mut self, value: &Value) -> Option<()> {
        self.item.clear();
        self.writer.with_version(None).message(&mut self.item, value, &self.shape)?;
        self.add_item();
        Some(())
    }

    fn add_item(&mut self) {
        if self.piece.len() + self.item.len() > PIECE && !self.piece.is_empty() {
            self.pieces.push(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE)).into());
        }
        wire::bytes(&mut self.piece, 2, &self.item);
    }

    /// The list's parts, with its envelope and metadata: its length stands before it, so that all items are there first.
    pub(crate) fn finish(mut self, metadata: &Value) -> Option<Vec<Bytes>> {
        let mut opening = Vec::new();
        list_metadata(&mut opening, metadata)?;
        let items = self.pieces.iter().map(Bytes::len).sum::<usize>() + self.piece.len();
        let mut first = head(self.resource.api_version, self.resource.list_kind);
        wire::length(&mut first, 2, opening.len() + items);
        first.extend_from_slice(&opening);
        self.piece.extend_from_slice(&tail());
        let mut parts = Vec::with_capacity(self.pieces.len() + 2);
        parts.push(first.into());
        parts.append(&mut self.pieces);
        parts.push(self.piece.into());
        Some(parts)
    }
}

/// Appends the message of an object that is stored in the form of its type; it is never made a value.
fn write_stored(writer: &mut Writer, out: &mut Vec<u8>, stored: &Stored, shape: &Shape) -> Option<()> {
    let mut source = serde_json::Deserializer::from_slice(&stored.value);
    writer.with_version(Some(stored.revision.to_string())).message(out, &mut source, shape)
}

/// An object that is stored in the form of `resource`, with its envelope; `None` when its kind has no message.
pub(crate) fn stored(resource: &Resource, stored: &Stored) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(stored.value.len());
    write_stored(&mut Writer::default(), &mut raw, stored, &resource.schema.shape())?;
    Some(envelope(resource.api_version, resource.kind, &raw))
}

/// A frame of a watch: its length in four bytes, then a `WatchEvent` that holds an object with its envelope.
pub(crate) fn watch_event(kind: &str, object: &Value) -> Option<Vec<u8>> {
    event(kind, &self::object(object)?)
}

/// The same of an object that is stored in the form of `resource`.
pub(crate) fn stored_event(resource: &Resource, kind: &str, stored: &Stored) -> Option<Vec<u8>> {
    event(kind, &self::stored(resource, stored)?)
}

fn event(kind: &str, content: &[u8]) -> Option<Vec<u8>> {
    let mut event = Vec::with_capacity(content.len() + 32);
    wire::bytes(&mut event, 1, kind.as_bytes());
    wire::message(&mut event, 2, |out| wire::bytes(out, 1, content));
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
    Writer::default().message(&mut out, value, shape)?;
    Some(out)
}

/// The media type of a watch.
pub(crate) const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
