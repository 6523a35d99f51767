//! Objects between the store and the handlers: parsed values with their resourceVersion, in the stored form or in
//! the form of the version that was asked for. Custom resources come here converted ([`crate::conversion`]).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use carrack_api::schema::always::complete;
use carrack_api::select::View;
use carrack_api::{Resource, codec, meta};
use carrack_store::{KeyValue, Revision};
use serde_json::Value;

use crate::ApiError;

/// An object as stored: bytes without resourceVersion, and the revision that is its resourceVersion. Those of custom
/// resources are in the form of the row that is asked for.
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
        to_served(resource, &mut object);
        Ok(object)
    }

    /// What a reader of `resource` gets, as new head and shared tail; encoded anew where the versions differ.
    pub(crate) fn parts(&self, resource: &Resource) -> Result<[Bytes; 2], ApiError> {
        if resource.conversion.is_none()
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

/// The bytes that are stored for an object of a built-in kind, in its stored form.
pub(crate) fn encode(object: &Value) -> Result<Bytes, ApiError> {
    codec::encode_storage(object).map_err(ApiError::internal)
}

/// Brings an object from the form that writes work on into the form of `resource`.
pub(crate) fn to_served(resource: &Resource, object: &mut Value) {
    if let Some(conversion) = resource.conversion {
        (conversion.from_storage)(object);
        complete(resource, object);
    }
}

/// An object in the form of `resource`, made of one in the form that writes work on.
pub(crate) fn as_served<'a>(resource: &Resource, object: &'a Value) -> Cow<'a, Value> {
    if resource.conversion.is_none() {
        return Cow::Borrowed(object);
    }
    let mut served = object.clone();
    to_served(resource, &mut served);
    Cow::Owned(served)
}

/// Brings an object from the form of `resource` into the form that writes work on.
pub(crate) fn to_storage(resource: &Resource, object: &mut Value) {
    if let Some(conversion) = resource.conversion {
        (conversion.to_storage)(object);
    }
}

/// What selectors of a built-in kind look at. Made once for each stored object, and shared by all who ask for the
/// stored version; other versions may show other fields, so that they get their own.
pub(crate) fn view(resource: &Resource, kv: &KeyValue) -> Arc<View> {
    if resource.is_storage_version() {
        return kv.decoded(|bytes| View::read(resource, bytes).unwrap_or_default());
    }
    let mut object = codec::read_lean(&kv.value).map_or(Value::Null, |lean| lean.object);
    to_served(resource, &mut object);
    Arc::new(View::of(resource, &object))
}
