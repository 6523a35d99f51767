//! Protobuf: request bodies, which kubectl's typed commands send (`create namespace`, `auth can-i`, `drain`), and
//! answers (see `encode`).
//!
//! A body is the four bytes `k8s\0` and a `runtime.Unknown` that names the type and holds the message. The message is
//! turned into the JSON that the client would have sent instead, which then takes the way of all JSON bodies. What a
//! type looks like is known from its schema; only the field numbers are a table of their own.

pub(crate) mod encode;
mod message;
mod numbers;
mod plan;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use bytes::Bytes;
use carrack_api::schema::TypeRef;
use serde_json::Value;

use message::message;
use wire::{Reader, Wire};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be turned into JSON.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProtobufError {
    #[error("the body does not begin with the four bytes that mark Kubernetes objects in protobuf")]
    Magic,
    #[error("the message is cut off or malformed")]
    Malformed,
    #[error("the message is nested too deeply")]
    TooDeep,
    #[error("text in the message is not UTF-8")]
    Text,
    #[error("a time in the message is out of range")]
    Time,
    #[error("embedded JSON is malformed: {0}")]
    Json(String),
    #[error("the content type {0:?} inside the message is not supported")]
    ContentType(String),
    #[error("protobuf is not supported for this type; use application/json")]
    UnknownType,
}

/// The JSON text of a body whose type is `of`.
pub(crate) fn to_json(body: &[u8], of: &TypeRef) -> Result<Bytes, ProtobufError> {
    let envelope = Envelope::read(body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?)?;
    if !matches!(envelope.content_type, "" | MEDIA_TYPE) {
        return Err(ProtobufError::ContentType(envelope.content_type.to_owned()));
    }
    let mut value = message(envelope.raw, &of.shape())?;
    let object = value.as_object_mut().ok_or(ProtobufError::UnknownType)?;
    for (field, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        if !text.is_empty() {
            object.insert(field.to_owned(), text.into());
        }
    }
    Ok(Value::to_string(&value).into())
}

/// `runtime.Unknown`.
#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
    content_type: &'a str,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut envelope = Envelope::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            match (number, wire) {
                (1, Wire::Bytes(meta)) => {
                    let mut meta = Reader::new(meta);
                    while let Some((number, wire)) = meta.field()? {
                        match (number, wire) {
                            (1, Wire::Bytes(text)) => envelope.api_version = wire::text(text)?,
                            (2, Wire::Bytes(text)) => envelope.kind = wire::text(text)?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (4, Wire::Bytes(text)) => envelope.content_type = wire::text(text)?,
                _ => {}
            }
        }
        Ok(envelope)
    }
}
