//! Structural schemas: the part of OpenAPI v3 that definitions of custom resources may use, parsed once.
//!
//! The structure (types, properties, items, Kubernetes' extensions) says what is pruned and defaulted; the rest only
//! judges values. Upstream: `k8s.io/apiextensions-apiserver/pkg/apiserver/schema`.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A JSON object.
    Object,
    /// A JSON array.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// true or false.
    Boolean,
}

impl Type {
    /// All types, by name.
    pub const ALL: &'static [(&'static str, Type)] = &[
        ("array", Type::Array),
        ("boolean", Type::Boolean),
        ("integer", Type::Integer),
        ("number", Type::Number),
        ("object", Type::Object),
        ("string", Type::String),
    ];

    /// The type of that name.
    pub fn parse(name: &str) -> Option<Type> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// The type as schemas write it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// How lists merge: `x-kubernetes-list-type` with `x-kubernetes-list-map-keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Entries appear once.
    Set,
    /// Entries are told apart by these fields.
    Map(Vec<String>),
}

/// What other keys than `properties` may hold.
#[derive(Debug)]
pub enum Additional {
    /// Anything, or nothing at all.
    Allowed(bool),
    /// Values of this schema.
    Schema(Box<Structural>),
}

/// One node of a schema.
#[derive(Debug, Default)]
pub struct Structural {
    /// The type; absent under `x-kubernetes-int-or-string`, `…-preserve-unknown-fields`, and in what only judges.
    pub kind: Option<Type>,
    /// Whether null is a value.
    pub nullable: bool,
    /// What stands for an absent value.
    pub default: Option<Value>,
    /// Known fields.
    pub properties: BTreeMap<String, Structural>,
    /// Other keys.
    pub additional: Option<Additional>,
    /// Entries of a list.
    pub items: Option<Box<Structural>>,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// How a list merges.
    pub list: ListType,
    /// Whether an object is one piece to server-side apply.
    pub atomic: bool,
    /// What values have to be like.
    pub limits: Box<Limits>,
}

/// Bounds of a number, length or count; `None` for no bound.
#[derive(Debug, Default, Clone, Copy)]
pub struct Range<T> {
    /// The least.
    pub least: Option<T>,
    /// The most.
    pub most: Option<T>,
}

/// What values have to be like beside their type.
#[derive(Debug, Default)]
pub struct Limits {
    /// Name of a format such as `date-time`.
    pub format: Option<String>,
    /// Bounds of a number, and whether they themselves are excluded.
    pub number: Range<f64>,
    /// Whether the least number itself is excluded.
    pub above_least: bool,
    /// Whether the greatest number itself is excluded.
    pub below_most: bool,
    /// What a number is a multiple of.
    pub multiple_of: Option<f64>,
    /// Characters of a text.
    pub length: Range<u64>,
    /// A regular expression, with its source.
    pub pattern: Option<(String, Regex)>,
    /// Entries of a list.
    pub items: Range<u64>,
    /// Whether entries of a list differ.
    pub unique: bool,
    /// Fields of an object.
    pub properties: Range<u64>,
    /// Fields that have to be there.
    pub required: Vec<String>,
    /// All allowed values; empty for any.
    pub choices: Vec<Value>,
    /// All have to hold.
    pub all_of: Vec<Structural>,
    /// At least one has to hold.
    pub any_of: Vec<Structural>,
    /// Exactly one has to hold.
    pub one_of: Vec<Structural>,
    /// Must not hold.
    pub not: Option<Box<Structural>>,
}

/// Deepest nesting of a schema: it is walked recursively, and so are values by it.
pub const MAX_DEPTH: usize = 50;

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SchemaError {
    /// More than [`MAX_DEPTH`] levels.
    #[error("schema is nested deeper than {MAX_DEPTH} levels: flatten it")]
    TooDeep,
    /// A pattern that is no regular expression, or one that takes too much memory.
    #[error("must be a valid regular expression, but isn't: {0}")]
    Pattern(String),
}

/// Largest compiled form of a pattern, in bytes.
const PATTERN_BYTES: usize = 1024 * 1024;

/// Compiles a pattern of Go's syntax.
pub fn compile_pattern(text: &str) -> Result<Regex, SchemaError> {
    let built = regex::RegexBuilder::new(&super::pattern::translate(text)).size_limit(PATTERN_BYTES).build();
    built.map_err(|why| SchemaError::Pattern(why.to_string()))
}

impl Structural {
    /// Reads an `openAPIV3Schema`, as JSON.
    pub fn parse(schema: &Value) -> Result<Self, SchemaError> {
        Self::at_depth(schema, 0)
    }

    fn at_depth(schema: &Value, depth: usize) -> Result<Self, SchemaError> {
        if depth > MAX_DEPTH {
            return Err(SchemaError::TooDeep);
        }
        let below = |schema: &Value| Self::at_depth(schema, depth + 1);
        let text = |field: &str| schema.get(field).and_then(Value::as_str);
        let flag = |field: &str| schema.get(field).and_then(Value::as_bool).unwrap_or(false);
        let additional = match schema.get("additionalProperties") {
            Some(Value::Bool(allowed)) => Some(Additional::Allowed(*allowed)),
            Some(values @ Value::Object(_)) => Some(Additional::Schema(Box::new(below(values)?))),
            _ => None,
        };
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        Ok(Structural {
            kind: text("type").and_then(Type::parse),
            nullable: flag("nullable"),
            default: schema.get("default").cloned(),
            properties: properties.map(|(k, v)| Ok((k.clone(), below(v)?))).collect::<Result<_, _>>()?,
            additional,
            items: schema.get("items").map(|s| below(s).map(Box::new)).transpose()?,
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list: match text("x-kubernetes-list-type") {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(texts(schema, "x-kubernetes-list-map-keys")),
                _ => ListType::Atomic,
            },
            atomic: text("x-kubernetes-map-type") == Some("atomic"),
            limits: Limits::parse(schema, &below)?,
        })
    }

    /// The schema of a field or key: its own, or that of all other keys.
    pub fn field(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        })
    }

    /// The schema at a path of fields.
    pub fn at<'s>(&self, path: impl IntoIterator<Item = &'s str>) -> Option<&Structural> {
        path.into_iter().try_fold(self, |schema, field| schema.field(field))
    }
}

impl Limits {
    fn parse(
        schema: &Value,
        below: &dyn Fn(&Value) -> Result<Structural, SchemaError>,
    ) -> Result<Box<Self>, SchemaError> {
        let number = |field: &str| schema.get(field).and_then(Value::as_f64);
        let count = |field: &str| schema.get(field).and_then(Value::as_u64);
        let flag = |field: &str| schema.get(field).and_then(Value::as_bool).unwrap_or(false);
        let text = |field: &str| schema.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
        let list = |field: &str| schema.get(field).and_then(Value::as_array).into_iter().flatten();
        let schemas = |field: &str| list(field).map(below).collect::<Result<Vec<_>, _>>();
        let pattern =
            text("pattern").map(|p| Ok::<_, SchemaError>((p.to_owned(), compile_pattern(p)?))).transpose()?;
        Ok(Box::new(Limits {
            format: text("format").map(str::to_owned),
            number: Range { least: number("minimum"), most: number("maximum") },
            above_least: flag("exclusiveMinimum"),
            below_most: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            length: Range { least: count("minLength"), most: count("maxLength") },
            pattern,
            items: Range { least: count("minItems"), most: count("maxItems") },
            unique: flag("uniqueItems"),
            properties: Range { least: count("minProperties"), most: count("maxProperties") },
            required: texts(schema, "required"),
            choices: list("enum").cloned().collect(),
            all_of: schemas("allOf")?,
            any_of: schemas("anyOf")?,
            one_of: schemas("oneOf")?,
            not: schema.get("not").map(|s| below(s).map(Box::new)).transpose()?,
        }))
    }
}

/// The texts of a list.
fn texts(schema: &Value, field: &str) -> Vec<String> {
    let list = schema.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether a field of an object is one that every resource has: `apiVersion`, `kind`, `metadata`.
pub(super) fn is_type_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}
