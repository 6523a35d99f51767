//! Turns a JSON schema into the compact shape that decoding and patching walk.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::atomic;
use super::enums::{self, Allowed};
use super::lists::{self, ListRule};

/// Index of an object type in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeId(u32);

impl TypeId {
    pub(super) fn new(index: usize) -> Self {
        TypeId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a value has to look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// An object with known fields.
    Object(TypeId),
    /// An object with known fields, or a switch in its place.
    ObjectOrBool(TypeId),
    /// A list of one shape.
    List(Box<Shape>),
    /// Free keys with values of one shape.
    Map(Box<Shape>),
    /// Text.
    Text,
    /// Base64 of bytes.
    Bytes,
    /// A signed 32-bit integer.
    Int32,
    /// A signed 64-bit integer.
    Int64,
    /// A floating-point number.
    Number,
    /// true or false.
    Bool,
    /// A resource quantity: text or number, kept as canonical text.
    Quantity,
    /// An integer or text.
    IntOrString,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// Anything at all.
    Any,
}

/// A field of an object type.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name in JSON.
    pub name: Box<str>,
    /// What its value looks like.
    pub shape: Shape,
    /// Whether the published type says that an object has it.
    pub required: bool,
    /// How patches treat it, if not by replacing lists and merging objects.
    pub rule: Option<&'static ListRule>,
    /// Whether server-side apply takes the value as one piece, whatever its type says.
    pub atomic: bool,
    /// Whether server-side apply takes the value field by field, although its type is one piece.
    pub granular: bool,
    /// The values that upstream publishes for the field, or for the entries of its list or map, if they are all known.
    pub allowed: Option<Allowed>,
}

/// An object with known fields.
#[derive(Clone, Debug)]
pub struct ObjectType {
    /// Name in Go without its package: `PodSpec`.
    pub go_name: Box<str>,
    /// Name in Go with its package: `v1.PodSpec`.
    pub go_type: Box<str>,
    /// Whether server-side apply takes the object as one piece.
    pub atomic: bool,
    /// Known fields, sorted by name.
    pub fields: Box<[Field]>,
}

impl ObjectType {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| (*f.name).cmp(name)).ok().map(|at| &self.fields[at])
    }
}

pub(super) fn object_type(name: &str, schema: &Value, names: &BTreeMap<String, TypeId>) -> ObjectType {
    let mut parts = name.rsplit('.');
    let go_name = parts.next().unwrap_or_default();
    let package = parts.next().unwrap_or_default();
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut fields: Vec<Field> = properties
        .iter()
        .map(|(field, schema)| Field {
            name: field.as_str().into(),
            shape: shape(schema, names),
            required: required.iter().any(|name| name == field),
            rule: lists::find(name, field),
            atomic: atomic::is_field(name, field),
            granular: atomic::is_granular(name, field),
            allowed: enums::of_field(name, field),
        })
        .collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    ObjectType {
        go_name: go_name.into(),
        go_type: format!("{package}.{go_name}").into(),
        atomic: atomic::is_type(name),
        fields: fields.into(),
    }
}

const REFERENCE: &str = "#/$defs/";
const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

fn shape(schema: &Value, names: &BTreeMap<String, TypeId>) -> Shape {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(REFERENCE)) {
        return named(name, names);
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
        "string" if format == "byte" => Shape::Bytes,
        "string" => Shape::Text,
        "integer" if format == "int32" => Shape::Int32,
        "integer" => Shape::Int64,
        "number" => Shape::Number,
        "boolean" => Shape::Bool,
        "array" => Shape::List(Box::new(schema.get("items").map_or(Shape::Any, |s| shape(s, names)))),
        "object" => match schema.get("additionalProperties") {
            Some(values) => Shape::Map(Box::new(shape(values, names))),
            None => Shape::Any,
        },
        _ => Shape::Any,
    }
}

/// The type of a schema inside a definition of custom resources.
fn props(names: &BTreeMap<String, TypeId>) -> Option<TypeId> {
    names.get(&format!("{APIEXTENSIONS}JSONSchemaProps")).copied()
}

/// Types that are written as one scalar, and those that hold anything, beside the objects proper.
fn named(name: &str, names: &BTreeMap<String, TypeId>) -> Shape {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrString,
        "io.k8s.apimachinery.pkg.runtime.RawExtension" => Shape::Any,
        _ if name.starts_with(APIEXTENSIONS) => match &name[APIEXTENSIONS.len()..] {
            "JSON" | "JSONSchemaPropsOrStringArray" => Shape::Any,
            "JSONSchemaPropsOrBool" => props(names).map_or(Shape::Any, Shape::ObjectOrBool),
            // Lists of schemas are refused for what they are by validation in upstream, here for their type.
            "JSONSchemaPropsOrArray" => props(names).map_or(Shape::Any, Shape::Object),
            _ => names.get(name).map_or(Shape::Any, |id| Shape::Object(*id)),
        },
        _ => match name.strip_prefix(META) {
            Some("Time") => Shape::Time,
            Some("MicroTime") => Shape::MicroTime,
            Some("FieldsV1") => Shape::Any,
            _ => names.get(name).map_or(Shape::Any, |id| Shape::Object(*id)),
        },
    }
}
