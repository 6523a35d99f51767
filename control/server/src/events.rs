//! Watch events as lines of JSON, made of the stored bytes where nothing has to be transformed.

use carrack_api::select::Selection;
use carrack_api::table::{self, Include};
use carrack_api::{ResourceRef, Scope};
use carrack_store::{EventKind, Revision};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::conversion::{Change, Found};
use crate::negotiate::{Media, Representation, Transform};
use crate::object::Stored;
use crate::{ApiError, protobuf};

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// The object is new, or new to the selector.
    Added,
    /// The object changed.
    Modified,
    /// The object is gone, or no longer selected.
    Deleted,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Type::Added => "ADDED",
            Type::Modified => "MODIFIED",
            Type::Deleted => "DELETED",
        }
    }
}

/// The annotation of the bookmark that ends the initial state of a watch.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// Encodes the events of one watch.
pub(crate) struct Encoder {
    resource: ResourceRef,
    media: Media,
    transform: Transform,
    include: Include,
    /// Whether the next table tells its columns: only the first one does.
    definitions: bool,
}

impl Encoder {
    pub(crate) fn new(resource: ResourceRef, representation: &Representation, include: Include) -> Self {
        let Representation { media, transform, .. } = *representation;
        Encoder { resource, media, transform, include, definitions: true }
    }

    /// Whether the objects are custom resources, which may have to be converted before they can be judged.
    pub(crate) fn is_custom(&self) -> bool {
        self.resource.custom().is_some()
    }

    /// What a change means to a watcher with this selection; `None` when it does not concern it.
    pub(crate) fn judge(&self, change: &Change, selection: &Selection) -> Option<Type> {
        let everything = selection.is_everything();
        let selects = |found: &Found| everything || selection.matches(&found.view(&self.resource));
        let is_new = change.event.kv.create_revision == change.event.kv.mod_revision;
        let before = match (&change.event.prev, &change.before) {
            (Some(_), Some(before)) => selects(before),
            // Nobody looks at it.
            (Some(_), None) => true,
            // What was there is compacted: better one event too many than one too few.
            (None, _) => change.event.kind == EventKind::Delete || !is_new,
        };
        let after = change.now.as_ref().is_some_and(selects);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(Type::Added),
            (true, true) => Some(Type::Modified),
            (true, false) => Some(Type::Deleted),
        }
    }

    /// Appends the event of an object with these stored bytes.
    pub(crate) fn event(
        &mut self,
        out: &mut Vec<u8>,
        kind: Type,
        value: &bytes::Bytes,
        revision: Revision,
    ) -> Result<(), ApiError> {
        let stored = Stored { value: value.clone(), revision };
        if self.transform == Transform::None && self.media == Media::Json {
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.as_str().as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            for part in stored.parts(&self.resource)? {
                out.extend_from_slice(&part);
            }
            out.extend_from_slice(b"}\n");
            return Ok(());
        }
        if self.transform == Transform::None
            && self.resource.is_storage_version()
            && let Some(frame) = protobuf::encode::stored_event(&self.resource, kind.as_str(), &stored)
        {
            out.extend_from_slice(&frame);
            return Ok(());
        }
        let object = stored.served(&self.resource)?;
        self.value(out, kind.as_str(), &object)
    }

    /// Appends an event with the object transformed as the watch asked for.
    fn value(&mut self, out: &mut Vec<u8>, kind: &str, object: &Value) -> Result<(), ApiError> {
        let object = match self.transform {
            Transform::None => object.clone(),
            Transform::Metadata(version) => table::partial_metadata(object, version),
            Transform::Table(version) => {
                let row = table::row(&self.resource, object, self.include, version, Timestamp::now());
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let definitions = std::mem::take(&mut self.definitions);
                table::table(&self.resource, version, metadata, vec![row], definitions)
            }
        };
        self.write(out, kind, &object)
    }

    /// Appends one event.
    fn write(&self, out: &mut Vec<u8>, kind: &str, object: &Value) -> Result<(), ApiError> {
        if self.media == Media::Protobuf {
            let frame = protobuf::encode::watch_event(kind, object).ok_or_else(|| {
                ApiError::not_acceptable(format!("{} has no form in protobuf", self.resource.kind))
            })?;
            out.extend_from_slice(&frame);
            return Ok(());
        }
        serde_json::to_writer(&mut *out, &json!({"type": kind, "object": object}))
            .map_err(ApiError::internal)?;
        out.push(b'\n');
        Ok(())
    }

    /// Appends a bookmark: everything up to `revision` was sent.
    pub(crate) fn bookmark(
        &mut self,
        out: &mut Vec<u8>,
        revision: Revision,
        initial_end: bool,
    ) -> Result<(), ApiError> {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_END: "true"});
        }
        let object = match self.transform {
            Transform::None => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version, "metadata": metadata})
            }
            Transform::Metadata(version) => table::partial_metadata(&json!({"metadata": metadata}), version),
            Transform::Table(version) => {
                let definitions = std::mem::take(&mut self.definitions);
                table::table(&self.resource, version, metadata, Vec::new(), definitions)
            }
        };
        self.write(out, "BOOKMARK", &object)
    }

    /// Appends the deletion of an object of which only the key is left.
    pub(crate) fn forgotten(
        &mut self,
        out: &mut Vec<u8>,
        key: &[u8],
        revision: Revision,
    ) -> Result<(), ApiError> {
        let key = String::from_utf8_lossy(key);
        let path = key.strip_prefix(self.resource.storage_prefix).unwrap_or(&key);
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        match (self.resource.scope, path.split_once('/')) {
            (Scope::Namespaced, Some((namespace, name))) => {
                metadata["namespace"] = json!(namespace);
                metadata["name"] = json!(name);
            }
            _ => metadata["name"] = json!(path),
        }
        let object = json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version, "metadata": metadata});
        self.value(out, Type::Deleted.as_str(), &object)
    }

    /// The event that ends a watch which cannot go on.
    pub(crate) fn error(&self, error: &ApiError) -> bytes::Bytes {
        if self.media == Media::Protobuf {
            return protobuf::encode::watch_event("ERROR", &error.to_value()).unwrap_or_default().into();
        }
        let mut out = b"{\"type\":\"ERROR\",\"object\":".to_vec();
        out.extend_from_slice(&error.to_json());
        out.extend_from_slice(b"}\n");
        out.into()
    }
}
