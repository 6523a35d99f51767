//! Between the stored form of custom resources, which is that of the storage version, and the served one.
//!
//! An object was stored in whichever version was the storage version then; its `apiVersion` says which. Its reader gets
//! it pruned and defaulted by the schema of that version, converted, and pruned by the schema of the version that was
//! asked for. Conversion is that of the strategy `None`, which changes `apiVersion`, or a webhook's: as that is no pure
//! function, the steps around it stand here for whoever asks the webhook.

use serde_json::Value;

use super::{Custom, default, prune};

/// Who converts the objects of a definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// `clientConfig`: where it is, and whom it is believed by.
    pub client: Value,
    /// The versions of ConversionReview that it takes, the preferred first.
    pub reviews: Vec<String>,
}

impl Custom {
    /// The webhook that converts objects; `None` where only `apiVersion` changes.
    pub fn webhook(&self) -> Option<&Webhook> {
        self.definition.webhook.as_ref()
    }

    /// Prunes and defaults an object as it is stored, by the schema of the version that it is stored in.
    pub fn complete(&self, object: &mut Value) {
        let stored = object.get("apiVersion").and_then(Value::as_str).and_then(|v| self.find(v));
        let stored = stored.unwrap_or_else(|| self.storage());
        prune(object, &stored.schema);
        default(object, &stored.schema);
    }

    /// Prunes an object that was just converted.
    pub fn arrived(&self, object: &mut Value) {
        if let Some(version) = object.get("apiVersion").and_then(Value::as_str).and_then(|v| self.find(v)) {
            prune(object, &version.schema);
        }
    }

    /// Converts an object to `api_version` by the strategy `None`.
    pub fn rename(&self, object: &mut Value, api_version: &str) {
        if !is_in(object, api_version) {
            set_version(object, api_version);
            self.arrived(object);
        }
    }
}

/// Whether an object is in the form of that version.
pub fn is_in(object: &Value, api_version: &str) -> bool {
    object.get("apiVersion").and_then(Value::as_str) == Some(api_version)
}

fn set_version(object: &mut Value, api_version: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), api_version.into());
    }
}
