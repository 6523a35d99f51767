//! Between the stored form of custom resources, which is that of the storage version, and the served one.
//!
//! An object was stored in whichever version was the storage version then; its `apiVersion` says which. Its reader gets
//! it pruned and defaulted by the schema of that version, converted, and pruned by the schema of the version that was
//! asked for. The only conversion built in is `None`: it changes `apiVersion`. Conversion by webhook, which is no pure
//! function, would come between [`Custom::read`]'s first half and its second.

use serde_json::Value;

use super::{Custom, default, prune};

impl Custom {
    /// From the stored form to the form of this row's version.
    pub fn read(&self, object: &mut Value) {
        let stored = object.get("apiVersion").and_then(Value::as_str).and_then(|v| self.find(v));
        let stored = stored.unwrap_or_else(|| self.storage());
        prune(object, &stored.schema);
        default(object, &stored.schema);
        let own = self.version();
        if stored.api_version != own.api_version {
            set_version(object, own.api_version);
            prune(object, &own.schema);
        }
    }

    /// From the form of this row's version to the stored form.
    pub fn write(&self, object: &mut Value) {
        let storage = self.storage();
        if storage.api_version != self.version().api_version {
            set_version(object, storage.api_version);
            prune(object, &storage.schema);
        }
    }
}

fn set_version(object: &mut Value, api_version: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), api_version.into());
    }
}
