//! Writing messages: any source of JSON (a value, or the text of a stored object, which is never made a value) is
//! read once, guided by the shape of its type, and each field is written as it comes. Fields come in the order of
//! their names and are put in the order of their numbers when their message is complete.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::schema::{Shape, registry};
use carrack_api::wire;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::plan::{self, Path, Plan};

/// Deepest nesting that is written; objects in the store are bounded alike.
const MAX_DEPTH: usize = 220;

/// How a field's content stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A number of variable length.
    Number = 0,
    /// Eight bytes.
    Double = 1,
    /// Text, bytes or a message, behind its length.
    Bytes = 2,
}

/// A field whose content is written, and whose head is not.
#[derive(Clone, Copy)]
struct Part {
    path: Path,
    form: Form,
    start: usize,
    end: usize,
}

/// Where messages are written to; one can write many.
#[derive(Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    /// The fields of all messages that are not complete.
    parts: Vec<Part>,
    spare: Vec<u8>,
    /// What the outermost message has as its resourceVersion, which is not in the source.
    version: Option<String>,
}

impl Writer {
    /// A writer that puts this resourceVersion into each object.
    pub(super) fn with_version(&mut self, version: Option<String>) -> &mut Self {
        self.version = version;
        self
    }

    /// Appends the message of `shape` that `source` says to `out`; `None` when it has none, or does not fit.
    pub(super) fn message<'de, D>(&mut self, out: &mut Vec<u8>, source: D, shape: &Shape) -> Option<()>
    where
        D: Deserializer<'de>,
    {
        let plan = plan_of(shape)?;
        self.out.clear();
        self.parts.clear();
        let seed = Message { writer: self, plan, depth: 0, is_metadata: false };
        seed.deserialize(source).ok()?;
        out.extend_from_slice(&self.out);
        Some(())
    }

    fn part(&mut self, path: Path, form: Form, start: usize) {
        self.parts.push(Part { path, form, start, end: self.out.len() });
    }

    /// Puts the fields from number `first` on, whose contents begin at `start`, together.
    fn complete(&mut self, first: usize, start: usize) {
        let parts = &mut self.parts[first..];
        if !parts.is_sorted_by_key(|part| part.path) {
            // Elements of a list stay in their order.
            parts.sort_by_key(|part| part.path);
        }
        self.spare.clear();
        put_together(&mut self.spare, &self.out, parts, 0);
        self.out.truncate(start);
        self.out.extend_from_slice(&self.spare);
        self.parts.truncate(first);
    }
}

/// Appends sorted fields with their heads; those of an inlined message within its own.
fn put_together(out: &mut Vec<u8>, contents: &[u8], parts: &[Part], level: usize) {
    let below = |part: &Part| part.path.get(level + 1).is_some_and(|number| *number != 0);
    for group in parts.chunk_by(|a, b| below(a) && a.path[level] == b.path[level]) {
        let Some(part) = group.first() else { continue };
        let number = part.path[level];
        if below(part) {
            wire::message(out, number, |inner| put_together(inner, contents, group, level + 1));
            continue;
        }
        wire::varint(out, u64::from(number) << 3 | part.form as u64);
        let content = &contents[part.start..part.end];
        if part.form == Form::Bytes {
            wire::varint(out, content.len() as u64);
        }
        out.extend_from_slice(content);
    }
}

fn plan_of(shape: &Shape) -> Option<&'static Plan> {
    let Shape::Object(id) = shape else { return None };
    plan::of(registry().get(*id))
}

/// Writes the content of a message.
struct Message<'w> {
    writer: &'w mut Writer,
    plan: &'static Plan,
    depth: usize,
    is_metadata: bool,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let Message { writer, plan, depth, is_metadata } = self;
        if depth > MAX_DEPTH {
            return Err(A::Error::custom("nested too deeply"));
        }
        let (first, start) = (writer.parts.len(), writer.out.len());
        if is_metadata
            && let Some(version) = writer.version.take()
            && let Some(field) = plan.field("resourceVersion")
        {
            writer.out.extend_from_slice(version.as_bytes());
            writer.part(field.path, Form::Bytes, start);
        }
        while let Some(key) = source.next_key::<Text<'de>>()? {
            let Some(field) = plan.field(&key.0) else {
                source.next_value::<IgnoredAny>()?;
                continue;
            };
            let is_metadata = depth == 0 && key.0 == "metadata";
            let (path, shape) = (field.path, field.shape);
            if field.wrapped {
                source.next_value_seed(Wrapped { writer, path, shape, depth: depth + 1 })?;
            } else {
                source.next_value_seed(Field { writer, path, shape, depth: depth + 1, is_metadata })?;
            }
        }
        writer.complete(first, start);
        Ok(())
    }
}

/// Text, borrowed where the source allows it.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Writes one value as a field, or a list as one for each element; nothing for null.
struct Field<'w> {
    writer: &'w mut Writer,
    path: Path,
    shape: &'static Shape,
    depth: usize,
    is_metadata: bool,
}

impl Field<'_> {
    fn bytes(self, content: &[u8]) {
        let start = self.writer.out.len();
        self.writer.out.extend_from_slice(content);
        self.writer.part(self.path, Form::Bytes, start);
    }

    fn message(self, content: impl FnOnce(&mut Vec<u8>)) {
        let start = self.writer.out.len();
        content(&mut self.writer.out);
        self.writer.part(self.path, Form::Bytes, start);
    }

    fn number(self, value: u64) {
        let start = self.writer.out.len();
        wire::varint(&mut self.writer.out, value);
        self.writer.part(self.path, Form::Number, start);
    }

    fn integer<E: Error>(self, value: i64) -> Result<(), E> {
        match self.shape {
            Shape::Int32 | Shape::Int64 => self.number(value.cast_unsigned()),
            Shape::Number => self.double(value as f64),
            Shape::IntOrString => self.message(|out| {
                wire::number(out, 1, 0);
                wire::number(out, 2, value.cast_unsigned());
            }),
            _ => return Err(misfit()),
        }
        Ok(())
    }

    fn double(self, value: f64) {
        let start = self.writer.out.len();
        self.writer.out.extend_from_slice(&value.to_le_bytes());
        self.writer.part(self.path, Form::Double, start);
    }
}

/// Values that do not fit their shape cannot be stored; what cannot be written makes the whole fail.
fn misfit<E: Error>() -> E {
    E::custom("a value does not fit its type")
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        if !matches!(self.shape, Shape::Any) {
            return source.deserialize_any(self);
        }
        let raw = Box::<RawValue>::deserialize(source)?;
        if raw.get() != "null" {
            self.message(|out| wire::bytes(out, 1, raw.get().as_bytes()));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value that fits its type")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.shape {
            Shape::Bool => self.number(u64::from(value)),
            Shape::ObjectOrBool(_) => self.message(|out| wire::number(out, 1, u64::from(value))),
            _ => return Err(misfit()),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(i64::try_from(value).map_err(|_| misfit())?)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.shape {
            Shape::Number => self.double(value),
            _ => return Err(misfit()),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.shape {
            Shape::Text => self.bytes(text.as_bytes()),
            Shape::Bytes => self.bytes(&STANDARD.decode(text).map_err(|_| misfit())?),
            Shape::Quantity => self.message(|out| wire::bytes(out, 1, text.as_bytes())),
            Shape::IntOrString => self.message(|out| {
                wire::number(out, 1, 1);
                wire::bytes(out, 3, text.as_bytes());
            }),
            Shape::Time | Shape::MicroTime => {
                let time: Timestamp = text.parse().map_err(|_| misfit())?;
                self.message(|out| {
                    wire::number(out, 1, time.as_second().cast_unsigned());
                    wire::number(out, 2, i64::from(time.subsec_nanosecond()).cast_unsigned());
                });
            }
            _ => return Err(misfit()),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let Field { writer, path, shape, depth, .. } = self;
        let Shape::List(items) = shape else { return Err(misfit()) };
        loop {
            let element = Field { writer, path, shape: items, depth: depth + 1, is_metadata: false };
            if source.next_element_seed(element)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<(), A::Error> {
        let Field { writer, path, shape, depth, is_metadata } = self;
        if let Shape::Map(values) = shape {
            while let Some(key) = source.next_key::<Text<'de>>()? {
                source.next_value_seed(Pair {
                    writer,
                    path,
                    key: &key.0,
                    shape: values,
                    depth: depth + 1,
                })?;
            }
            return Ok(());
        }
        if let Shape::ObjectOrBool(id) = shape {
            // Go writes the switch in every case, and a schema means that there are other keys.
            let (first, start) = (writer.parts.len(), writer.out.len());
            wire::varint(&mut writer.out, 1);
            writer.part(KEY, Form::Number, start);
            let plan = plan_of(&Shape::Object(*id)).ok_or_else(misfit)?;
            let inner = writer.out.len();
            Message { writer: &mut *writer, plan, depth, is_metadata: false }.visit_map(source)?;
            writer.part(VALUE, Form::Bytes, inner);
            writer.complete(first, start);
            writer.part(path, Form::Bytes, start);
            return Ok(());
        }
        let plan = plan_of(shape).ok_or_else(misfit)?;
        let start = writer.out.len();
        Message { writer: &mut *writer, plan, depth, is_metadata }.visit_map(source)?;
        writer.part(path, Form::Bytes, start);
        Ok(())
    }
}

/// Writes a value as the field 1 of a message, and that as a field; nothing for null.
struct Wrapped<'w> {
    writer: &'w mut Writer,
    path: Path,
    shape: &'static Shape,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Wrapped<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        let Wrapped { writer, path, shape, depth } = self;
        let (first, start) = (writer.parts.len(), writer.out.len());
        Field { writer: &mut *writer, path: KEY, shape, depth, is_metadata: false }.deserialize(source)?;
        if writer.parts.len() > first {
            writer.complete(first, start);
            writer.part(path, Form::Bytes, start);
        }
        Ok(())
    }
}

/// Writes a pair of a map: a message with the key and the value.
struct Pair<'w, 'k> {
    writer: &'w mut Writer,
    path: Path,
    key: &'k str,
    shape: &'static Shape,
    depth: usize,
}

const KEY: Path = [1, 0, 0];
const VALUE: Path = [2, 0, 0];

impl<'de> DeserializeSeed<'de> for Pair<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        let Pair { writer, path, key, shape, depth } = self;
        let (first, start) = (writer.parts.len(), writer.out.len());
        writer.out.extend_from_slice(key.as_bytes());
        writer.part(KEY, Form::Bytes, start);
        let (inner, inner_start) = (writer.parts.len(), writer.out.len());
        // Lists as values of maps are messages of their own, with the items in field 1.
        let is_list = matches!(shape, Shape::List(_));
        let value = if is_list { KEY } else { VALUE };
        Field { writer: &mut *writer, path: value, shape, depth, is_metadata: false }.deserialize(source)?;
        if is_list {
            writer.complete(inner, inner_start);
            writer.part(VALUE, Form::Bytes, inner_start);
        }
        writer.complete(first, start);
        writer.part(path, Form::Bytes, start);
        Ok(())
    }
}
