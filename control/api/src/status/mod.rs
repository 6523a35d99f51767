//! `metav1.Status`: what a refused request answers, in upstream's words.
//!
//! Each function makes the answer for one reason; [`Status::to_value`] and [`Status::to_json`] give the body, and
//! [`Status::code`] the HTTP status. The wording follows `k8s.io/apimachinery/pkg/api/errors`, because clients and
//! people match on it.

mod field;
mod reasons;

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

pub use field::{ErrorType, FieldError, FieldPath, go_quoted, is_hidden};
pub use reasons::*;

use crate::catalogue::ResourceRef;
use crate::resource::{Resource, qualified};

/// Group and resource (or kind) that a message speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural name of the resource, with `/subresource` where it matters.
    pub resource: &'a str,
}

impl GroupResource<'_> {
    fn qualified(&self) -> String {
        qualified(self.resource, self.group)
    }
}

impl<'a> From<&'a Resource> for GroupResource<'a> {
    fn from(resource: &'a Resource) -> Self {
        GroupResource { group: resource.group, resource: resource.plural }
    }
}

impl<'a> From<&'a ResourceRef> for GroupResource<'a> {
    fn from(resource: &'a ResourceRef) -> Self {
        (&**resource).into()
    }
}

impl<'a> From<(&'a str, &'a str)> for GroupResource<'a> {
    fn from((group, resource): (&'a str, &'a str)) -> Self {
        GroupResource { group, resource }
    }
}

/// One cause of a refusal, usually a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable type such as `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong, for people.
    pub message: String,
    /// Path of the field, empty if none.
    pub field: String,
}

/// What the refusal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// API group.
    pub group: String,
    /// Resource in most refusals, kind in `Invalid`.
    pub kind: String,
    /// Uid of the object.
    pub uid: String,
    /// Single causes.
    pub causes: Vec<Cause>,
    /// Seconds to wait before another try; 0 means unsaid.
    pub retry_after_seconds: u32,
}

/// A `metav1.Status` with `status: Failure` (or `Success`, see [`success`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason such as `NotFound`; empty for success.
    pub reason: &'static str,
    /// What happened, for people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// Opaque continue token for an expired list, placed in `metadata.continue`.
    pub continue_token: Option<String>,
    /// Items left after `continue_token`, if known.
    pub remaining_items: Option<i64>,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Status {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
            remaining_items: None,
        }
    }

    fn about(mut self, resource: GroupResource<'_>, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = resource.group.to_owned();
        details.kind = resource.resource.to_owned();
        details.name = name.to_owned();
        self
    }

    fn caused_by(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// Whether this reports success rather than a refusal.
    pub fn is_success(&self) -> bool {
        self.code < 400
    }

    /// The body as a JSON value.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The body as JSON text, its fields in upstream's order.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The same over several lines, for people.
    pub fn to_json_pretty(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.as_str().into());
        }
        if let Some(left) = self.remaining_items {
            metadata.insert("remainingItemCount".into(), left.into());
        }
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry("kind", "Status")?;
        body.serialize_entry("apiVersion", "v1")?;
        body.serialize_entry("metadata", &metadata)?;
        body.serialize_entry("status", if self.is_success() { "Success" } else { "Failure" })?;
        for (name, text) in [("message", self.message.as_str()), ("reason", self.reason)] {
            if !text.is_empty() {
                body.serialize_entry(name, text)?;
            }
        }
        if let Some(details) = &self.details {
            body.serialize_entry("details", details)?;
        }
        if !self.is_success() {
            body.serialize_entry("code", &self.code)?;
        }
        body.end()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Serialize for Details {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_map(None)?;
        for (name, text) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !text.is_empty() {
                body.serialize_entry(name, text)?;
            }
        }
        if !self.causes.is_empty() {
            body.serialize_entry("causes", &self.causes)?;
        }
        if self.retry_after_seconds > 0 {
            body.serialize_entry("retryAfterSeconds", &self.retry_after_seconds)?;
        }
        body.end()
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_map(None)?;
        for (name, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                body.serialize_entry(name, text)?;
            }
        }
        body.end()
    }
}
