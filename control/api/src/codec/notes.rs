//! What is noted while a body is read along a shape: where the reader is, what is unknown or twice, what is of a wrong type.

use std::fmt::{Display, Write};

use serde_json::Value;

use super::seed::zero;
use super::{DecodeError, Decoded, Empty, StrictProblem};
use crate::schema::{Registry, Shape};

/// More strict problems than this are not listed: an answer stays readable and memory bounded.
const MAX_PROBLEMS: usize = 100;

/// A failure of a run: of the source, or of depth.
pub(super) struct Failure {
    too_deep: bool,
    wrong_type: Option<String>,
    source: String,
}

impl Failure {
    pub(super) fn into_decode_error(self) -> DecodeError {
        if let Some(why) = self.wrong_type {
            return DecodeError::Type(why);
        }
        if self.too_deep || self.source.starts_with("recursion limit exceeded") {
            return DecodeError::TooDeep;
        }
        DecodeError::Syntax(self.source)
    }
}

/// What is noted while reading.
pub(super) struct Notes<'r> {
    pub(super) registry: &'r Registry,
    pub(super) empty: Empty,
    path: String,
    pub(super) depth: usize,
    pub(super) too_deep: bool,
    strict: Vec<StrictProblem>,
    /// The first value of a wrong type; reading goes on, so that its message does not hide a syntax error.
    wrong_type: Option<String>,
    /// The Go name of the struct whose field is being read, for messages.
    pub(super) within: Option<&'r str>,
    /// The fields on the way here, which is how Go's messages name a place: no indices, no keys of maps.
    pub(super) fields: Vec<&'r str>,
}

impl<'r> Notes<'r> {
    pub(super) fn new(registry: &'r Registry, empty: Empty) -> Self {
        Notes {
            registry,
            empty,
            path: String::new(),
            depth: 0,
            too_deep: false,
            strict: Vec::new(),
            wrong_type: None,
            within: None,
            fields: Vec::new(),
        }
    }

    pub(super) fn finish<E: Display>(
        self,
        read: Result<Option<Value>, E>,
        shape: &Shape,
    ) -> Result<Decoded, Failure> {
        match read {
            Ok(value) if self.wrong_type.is_none() => {
                Ok(Decoded { value: value.unwrap_or_else(|| zero(shape)), strict: self.strict })
            }
            Ok(_) => Err(Failure { too_deep: false, wrong_type: self.wrong_type, source: String::new() }),
            Err(why) => Err(Failure { too_deep: self.too_deep, wrong_type: None, source: why.to_string() }),
        }
    }

    pub(super) fn note(&mut self, problem: StrictProblem) {
        if self.strict.len() < MAX_PROBLEMS && !self.strict.contains(&problem) {
            self.strict.push(problem);
        }
    }

    /// Runs `read` with a field added to the path.
    pub(super) fn at_field<T>(&mut self, field: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(field);
        let out = read(self);
        self.path.truncate(length);
        out
    }

    /// Runs `read` with an entry of a list added to the path.
    pub(super) fn at_entry<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        let _ = write!(self.path, "[{index}]");
        let out = read(self);
        self.path.truncate(length);
        out
    }

    pub(super) fn joined(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Notes that a `found` (in Go's words) stands where `shape` should.
    pub(super) fn mismatch(&mut self, found: &str, shape: &Shape) {
        if self.wrong_type.is_some() {
            return;
        }
        let wanted = go_type(shape, self.registry);
        let path = self.fields.join(".");
        self.wrong_type = Some(match self.within {
            Some(within) => {
                format!(
                    "json: cannot unmarshal {found} into Go struct field {within}.{path} of type {wanted}"
                )
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
        });
    }

    pub(super) fn refuse(&mut self, why: String) {
        self.wrong_type.get_or_insert(why);
    }
}

fn go_type(shape: &Shape, registry: &Registry) -> String {
    match shape {
        Shape::Object(id) | Shape::ObjectOrBool(id) => registry.get(*id).go_type.to_string(),
        Shape::List(of) => format!("[]{}", go_type(of, registry)),
        Shape::Map(of) => format!("map[string]{}", go_type(of, registry)),
        Shape::Text => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Number => "float64".into(),
        Shape::Bool => "bool".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::IntOrString => "intstr.IntOrString".into(),
        Shape::Time => "v1.Time".into(),
        Shape::MicroTime => "v1.MicroTime".into(),
        Shape::Any => "interface {}".into(),
    }
}
