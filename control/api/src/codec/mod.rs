//! Bytes to values and back: strict decoding of requests, and the form in which objects are stored and sent.
//!
//! Decoding walks the type's [`Shape`] while it reads, in one pass: unknown and repeated fields are noted in the order of
//! the text and dropped, wrong types are refused in the words of Go's decoder, nulls are treated as absent, and so are lists
//! and maps of nothing (but in what is applied), quantities and times are brought into their canonical form.

mod custom;
mod lean;
mod notes;
mod parts;
mod seed;
mod store;
mod syntax;

use std::fmt;

use serde_json::Value;

use crate::resource::Resource;
use crate::schema::{Shape, TypeRef};
use crate::status::{FieldError, FieldPath};

pub(crate) use seed::drop_nothing;

pub use lean::{Lean, read_lean};
pub use parts::Parts;
pub use store::{EncodeError, encode_storage, head_length, splice, splice_head, write_head};

/// Largest body that is read, in bytes; what upstream's API server takes.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// Deepest nesting of lists and objects. The JSON reader has the same bound; it keeps every later walk off the
/// end of the stack.
pub const MAX_DEPTH: usize = 127;

/// The text form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// application/json
    Json,
    /// application/yaml
    Yaml,
}

/// What strict field validation minds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrictProblem {
    /// A field that the type does not have.
    UnknownField(String),
    /// A field that is there twice; the last one counts.
    DuplicateField(String),
    /// Something about an operation of a JSON patch.
    InPatch(Box<StrictProblem>),
}

impl fmt::Display for StrictProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StrictProblem::UnknownField(path) => write!(f, "unknown field {path:?}"),
            StrictProblem::DuplicateField(path) => write!(f, "duplicate field {path:?}"),
            StrictProblem::InPatch(problem) => write!(f, "json patch {problem}"),
        }
    }
}

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// What the body says, without unknown fields and nulls when a type was given.
    pub value: Value,
    /// Unknown and duplicate fields, in the order of the text, each once.
    pub strict: Vec<StrictProblem>,
}

impl Decoded {
    /// `strict decoding error: unknown field "spec.x", duplicate field "spec.y"`, if there is anything to mind.
    pub fn strict_error(&self) -> Option<String> {
        if self.strict.is_empty() {
            return None;
        }
        let all: Vec<String> = self.strict.iter().map(ToString::to_string).collect();
        Some(format!("strict decoding error: {}", all.join(", ")))
    }
}

/// Why a body cannot be decoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// More than [`MAX_BODY`] bytes: answer 413.
    #[error("limit is {MAX_BODY}")]
    TooLarge,
    /// More than [`MAX_DEPTH`] levels.
    #[error("exceeded max depth")]
    TooDeep,
    /// Not JSON or YAML.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Syntax(String),
    /// A value of the wrong type, in the words of Go's decoder.
    #[error("{0}")]
    Type(String),
    /// `apiVersion` is another than the path's.
    #[error("the API version in the data ({found}) does not match the expected API version ({expected})")]
    ApiVersion {
        /// In the body.
        found: String,
        /// In the path.
        expected: String,
    },
    /// `kind` is another than the path's.
    #[error("{found} in version {version:?} cannot be handled as a {expected}")]
    Kind {
        /// In the body.
        found: String,
        /// The body's version.
        version: String,
        /// What the path takes.
        expected: String,
    },
    /// A custom resource does not say what kind it is.
    #[error("Object 'Kind' is missing in '{0}'")]
    NoKind(String),
    /// A custom resource is of another group, of a version that there is not, or says neither.
    #[error("{why}")]
    Version {
        /// The body's version.
        version: String,
        /// In upstream's words.
        why: String,
    },
    /// A custom resource is of another kind: 422.
    #[error("{found} is not {expected}")]
    OtherKind {
        /// In the body.
        found: String,
        /// What the path takes.
        expected: String,
        /// The object's name.
        name: String,
    },
}

impl DecodeError {
    /// The refusal for a `body` that should have been an object of `resource`.
    pub fn into_status(self, resource: &Resource, body: &[u8]) -> crate::Status {
        match self {
            DecodeError::Syntax(_) | DecodeError::NoKind(_) => crate::status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): {self} ({})",
                resource.kind,
                syntax::summary(body)
            )),
            DecodeError::TooLarge => crate::status::too_large(MAX_BODY),
            DecodeError::Type(why) => crate::status::cannot_be_handled(resource, &why),
            DecodeError::Version { version, why } => crate::status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {why}",
                kind = resource.kind
            )),
            DecodeError::OtherKind { found, expected, name } => {
                let path = FieldPath::root("kind");
                let error = FieldError::invalid(&path, found.as_str(), format!("must be {expected}"));
                crate::status::invalid(resource.group, &found, &name, &[error])
            }
            other => crate::status::bad_request(other.to_string()),
        }
    }
}

/// What becomes of lists and maps of nothing, where a type says that an object need not have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empty {
    /// They are dropped, as by upstream, which writes what it read.
    Dropped,
    /// They stay: who applies a configuration owns what is in it.
    Kept,
}

/// Decodes a body whose type is not known; only duplicate fields are noted.
pub fn decode(body: &[u8], media: Media) -> Result<Decoded, DecodeError> {
    decode_shape(body, media, &Shape::Any, Empty::Kept)
}

/// Decodes a body of a known type: see the module for what is done to it.
pub fn decode_type(body: &[u8], media: Media, of: &TypeRef) -> Result<Decoded, DecodeError> {
    decode_shape(body, media, &of.shape(), Empty::Dropped)
}

/// Decodes an object of `resource`, and checks its `apiVersion` and `kind`; built-in ones may leave them out.
pub fn decode_object(body: &[u8], media: Media, resource: &Resource) -> Result<Decoded, DecodeError> {
    let mut decoded = match resource.custom() {
        Some(custom) => {
            let decoded = decode(body, media)?;
            custom::check_kind(&decoded.value, resource, custom, body)?;
            let mut accepted = custom::accept(decoded.value, custom, true)?;
            accepted.strict.splice(0..0, decoded.strict);
            accepted
        }
        None => decode_type(body, media, &resource.schema)?,
    };
    identify(&mut decoded.value, resource.api_version, resource.kind)?;
    Ok(decoded)
}

/// Decodes a configuration that is to be applied to an object of `resource`: as [`decode_object`], but that nothing is
/// filled in, since its author is taken to want what it says.
pub fn decode_config(body: &[u8], media: Media, resource: &Resource) -> Result<Decoded, DecodeError> {
    let Some(custom) = resource.custom() else {
        return decode_shape(body, media, &resource.schema.shape(), Empty::Kept);
    };
    let decoded = decode(body, media)?;
    let mut accepted = custom::accept(decoded.value, custom, false)?;
    accepted.strict.splice(0..0, decoded.strict);
    Ok(accepted)
}

/// Checks a value that was made by other means, such as a patch, against the type of `resource`.
pub fn check(value: Value, resource: &Resource) -> Result<Decoded, DecodeError> {
    if let Some(custom) = resource.custom() {
        return custom::accept(value, custom, true);
    }
    seed::run(value, &resource.schema.shape(), Empty::Dropped).map_err(|why| why.into_decode_error())
}

/// Fills `apiVersion` and `kind` where they are absent or empty, and refuses others.
pub fn identify(value: &mut Value, api_version: &str, kind: &str) -> Result<(), DecodeError> {
    let Some(object) = value.as_object_mut() else {
        return Err(DecodeError::Type(format!("json: cannot unmarshal value into Go value of type {kind}")));
    };
    let found_version = text(object.get("apiVersion")).to_owned();
    let found_kind = text(object.get("kind")).to_owned();
    if !found_kind.is_empty() && found_kind != kind {
        let version = found_version.rsplit('/').next().unwrap_or_default().to_owned();
        return Err(DecodeError::Kind { found: found_kind, version, expected: kind.to_owned() });
    }
    if !found_version.is_empty() && found_version != api_version {
        return Err(DecodeError::ApiVersion { found: found_version, expected: api_version.to_owned() });
    }
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(())
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

fn decode_shape(body: &[u8], media: Media, shape: &Shape, empty: Empty) -> Result<Decoded, DecodeError> {
    if body.len() > MAX_BODY {
        return Err(DecodeError::TooLarge);
    }
    match media {
        Media::Json => {
            let mut reader = serde_json::Deserializer::from_slice(body);
            let broken = |found: &str| DecodeError::Syntax(syntax::in_go(body, found));
            let decoded =
                seed::run(&mut reader, shape, empty).map_err(|why| match why.into_decode_error() {
                    DecodeError::Syntax(found) => broken(&found),
                    other => other,
                })?;
            reader.end().map_err(|why| broken(&why.to_string()))?;
            Ok(decoded)
        }
        Media::Yaml => seed::run_yaml(body, shape, empty),
    }
}
