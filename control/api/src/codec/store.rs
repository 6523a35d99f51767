//! The stored form of objects, and how a reader's bytes are made of it without encoding again.
//!
//! A stored value starts with `{"apiVersion":"…","kind":"…","metadata":{` and its metadata holds no resourceVersion. A
//! reader gets that head, `"resourceVersion":"<revision>",`, and the rest of the stored bytes as they are.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::resource::Resource;

/// Why an object cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Not an object, or no `apiVersion`, `kind` or `metadata.name`.
    #[error("an object without {0} cannot be stored")]
    Missing(&'static str),
    /// The encoder failed.
    #[error("cannot encode the object: {0}")]
    Json(#[from] serde_json::Error),
}

/// Encodes an object in its stored form: apiVersion, kind and metadata first, no resourceVersion, no nulls added,
/// other fields in order of their names.
pub fn encode_storage(object: &Value) -> Result<Bytes, EncodeError> {
    let fields = object.as_object().ok_or(EncodeError::Missing("fields"))?;
    let text = |name: &'static str| {
        fields.get(name).and_then(Value::as_str).filter(|t| !t.is_empty()).ok_or(EncodeError::Missing(name))
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let metadata =
        fields.get("metadata").and_then(Value::as_object).ok_or(EncodeError::Missing("metadata"))?;
    // The splice puts a comma behind the resourceVersion, so that something has to follow it.
    if !metadata.contains_key("name") {
        return Err(EncodeError::Missing("metadata.name"));
    }
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"apiVersion\":");
    serde_json::to_writer(&mut out, api_version)?;
    out.extend_from_slice(b",\"kind\":");
    serde_json::to_writer(&mut out, kind)?;
    out.extend_from_slice(b",\"metadata\":{");
    write_fields(&mut out, metadata, &["resourceVersion"], true)?;
    out.push(b'}');
    write_fields(&mut out, fields, &["apiVersion", "kind", "metadata"], false)?;
    out.push(b'}');
    // The store keeps these bytes for as long as the object lives, and what was room to grow with them.
    Ok(out.into_boxed_slice().into())
}

/// Writes the fields that are not in `except`, sorted, with commas between them, and before the first one unless
/// `first`.
fn write_fields(
    out: &mut Vec<u8>,
    fields: &Map<String, Value>,
    except: &[&str],
    mut first: bool,
) -> Result<(), serde_json::Error> {
    let mut sorted: Vec<(&String, &Value)> =
        fields.iter().filter(|(name, _)| !except.contains(&name.as_str())).collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
    for (name, value) in sorted {
        if !first {
            out.push(b',');
        }
        first = false;
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        value.serialize(&mut serde_json::Serializer::new(&mut *out))?;
    }
    Ok(())
}

/// Appends `{"apiVersion":"…","kind":"…","metadata":{` for objects of `resource`.
pub fn write_head(out: &mut Vec<u8>, resource: &Resource) {
    for part in
        ["{\"apiVersion\":\"", resource.api_version, "\",\"kind\":\"", resource.kind, "\",\"metadata\":{"]
    {
        out.extend_from_slice(part.as_bytes());
    }
}

/// How many bytes [`write_head`] writes, which is where the shared tail of a stored value begins.
pub fn head_length(resource: &Resource) -> usize {
    "{\"apiVersion\":\"\",\"kind\":\"\",\"metadata\":{".len()
        + resource.api_version.len()
        + resource.kind.len()
}

/// The head and the resourceVersion: what stands before the tail of a stored value in a reader's bytes.
pub fn splice_head(resource: &Resource, revision: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(head_length(resource) + 44);
    write_head(&mut out, resource);
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(b"\",");
    out
}

/// The two parts of a reader's bytes of a stored value: what is made anew and what is shared. `None` when `stored`
/// is not in the stored form of `resource`.
pub fn splice(resource: &Resource, stored: &Bytes, revision: u64) -> Option<(Bytes, Bytes)> {
    let length = head_length(resource);
    let mut head = Vec::with_capacity(length);
    write_head(&mut head, resource);
    if !stored.starts_with(&head) {
        return None;
    }
    Some((splice_head(resource, revision).into(), stored.slice(length..)))
}
