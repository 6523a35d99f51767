//! Owner references: who an object belongs to.

use serde_json::Value;

use super::metadata;

/// One owner, borrowed from the object's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// The owner's apiVersion.
    pub api_version: &'a str,
    /// The owner's kind.
    pub kind: &'a str,
    /// The owner's name.
    pub name: &'a str,
    /// The owner's uid.
    pub uid: &'a str,
    /// Whether the owner manages the object.
    pub controller: bool,
    /// Whether a foreground deletion of the owner waits for the object.
    pub block_owner_deletion: bool,
}

/// The owners of an object, in order.
pub fn owners(object: &Value) -> impl Iterator<Item = OwnerReference<'_>> {
    metadata(object)
        .and_then(|m| m.get("ownerReferences"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|owner| {
            let text = |field| owner.get(field).and_then(Value::as_str).unwrap_or_default();
            let flag = |field| owner.get(field).and_then(Value::as_bool).unwrap_or_default();
            OwnerReference {
                api_version: text("apiVersion"),
                kind: text("kind"),
                name: text("name"),
                uid: text("uid"),
                controller: flag("controller"),
                block_owner_deletion: flag("blockOwnerDeletion"),
            }
        })
}

/// The owner that manages the object, if it has one.
pub fn controller_of(object: &Value) -> Option<OwnerReference<'_>> {
    owners(object).find(|owner| owner.controller)
}
