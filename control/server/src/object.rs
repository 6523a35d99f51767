//! Objects between the store and the handlers: parsed values with their resourceVersion, in the stored form or in
//! the form of the version that was asked for.

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::select::View;
use carrack_api::{Resource, codec, meta};
use carrack_store::{KeyValue, Revision};
use serde_json::Value;

use crate::ApiError;

/// An object as stored: bytes without resourceVersion, and the revision that is its resourceVersion.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The canonical bytes.
    pub(crate) value: Bytes,
    /// The revision of the last change.
    pub(crate) revision: Revision,
}

impl From<&KeyValue> for Stored {
    fn from(kv: &KeyValue) -> Self {
        Stored { value: kv.value.clone(), revision: kv.mod_revision }
    }
}

impl Stored {
    /// The object in the stored form, resourceVersion included.
    pub(crate) fn object(&self) -> Result<Value, ApiError> {
        let mut object = parse(&self.value)?;
        meta::set(&mut object, "resourceVersion", self.revision.to_string());
        Ok(object)
    }

    /// The object in the form of `resource`, resourceVersion included.
    pub(crate) fn served(&self, resource: &Resource) -> Result<Value, ApiError> {
        let mut object = self.object()?;
        read(resource, &mut object);
        Ok(object)
    }

    /// The object in the form that writes work on: the stored one of built-in kinds, the served one of custom
    /// resources, whose rules are those of the version that was asked for.
    pub(crate) fn working(&self, resource: &Resource) -> Result<Value, ApiError> {
        if resource.custom().is_some() { self.served(resource) } else { self.object() }
    }

    /// What a reader of `resource` gets, as new head and shared tail; encoded anew where the versions differ.
    pub(crate) fn parts(&self, resource: &Resource) -> Result<[Bytes; 2], ApiError> {
        if resource.is_storage_version()
            && let Some((head, tail)) = codec::splice(resource, &self.value, self.revision.unsigned_abs())
        {
            return Ok([head, tail]);
        }
        let text = serde_json::to_vec(&self.served(resource)?).map_err(ApiError::internal)?;
        Ok([text.into(), Bytes::new()])
    }
}

/// Parses stored bytes; a failure means damage and names no content.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|e| ApiError::internal(format!("a stored object is damaged: {e}")))
}

/// Brings an object as it is stored into the form of `resource`.
fn read(resource: &Resource, object: &mut Value) {
    match resource.custom() {
        Some(custom) => custom.read(object),
        None => to_served(resource, object),
    }
}

/// The bytes that are stored for an object in the form that writes work on.
pub(crate) fn encode(resource: &Resource, object: &Value) -> Result<Bytes, ApiError> {
    let encoded = match resource.custom() {
        Some(custom) => {
            let mut stored = object.clone();
            custom.write(&mut stored);
            codec::encode_storage(&stored)
        }
        None => codec::encode_storage(object),
    };
    encoded.map_err(ApiError::internal)
}

/// Brings an object from the form that writes work on into the form of `resource`.
pub(crate) fn to_served(resource: &Resource, object: &mut Value) {
    if let Some(conversion) = resource.conversion {
        (conversion.from_storage)(object);
    }
}

/// Brings an object from the form of `resource` into the form that writes work on.
pub(crate) fn to_storage(resource: &Resource, object: &mut Value) {
    if let Some(conversion) = resource.conversion {
        (conversion.to_storage)(object);
    }
}

/// What selectors of `resource` look at. Made once for each stored object, and shared by all who ask for the
/// stored version; other versions may show other fields, so that they get their own.
pub(crate) fn view(resource: &Resource, kv: &KeyValue) -> Arc<View> {
    let make = |bytes: &Bytes| {
        let mut object = codec::read_lean(bytes).map_or(Value::Null, |lean| lean.object);
        read(resource, &mut object);
        View::of(resource, &object)
    };
    if resource.is_storage_version() { kv.decoded(make) } else { Arc::new(make(&kv.value)) }
}
