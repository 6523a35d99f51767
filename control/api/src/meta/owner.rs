//! Owner references: who an object belongs to.

use std::collections::HashSet;

use serde_json::Value;

use super::{metadata, metadata_mut};

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

/// Takes out owner references that are there more than once, and says whose they are: the uids, once for each that was
/// taken out.
pub fn dedup_owners(object: &mut Value) -> Vec<String> {
    let many = |object: &Value| {
        metadata(object)
            .and_then(|m| m.get("ownerReferences"))
            .and_then(Value::as_array)
            .is_some_and(|o| o.len() > 1)
    };
    if !many(object) {
        return Vec::new();
    }
    let references =
        metadata_mut(object).and_then(|m| m.get_mut("ownerReferences")).and_then(Value::as_array_mut);
    let Some(references) = references else { return Vec::new() };
    let mut seen = HashSet::new();
    let mut twice = Vec::new();
    references.retain(|reference| {
        let is_new = seen.insert(reference.to_string());
        if !is_new {
            twice.push(reference.get("uid").and_then(Value::as_str).unwrap_or_default().to_owned());
        }
        is_new
    });
    twice
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn owners_that_are_the_same_are_one() {
        let owner =
            |uid: &str, name: &str| json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid});
        let with = |owners: Vec<Value>| json!({"metadata": {"ownerReferences": owners}});
        let mut object =
            with(vec![owner("1", "a"), owner("2", "b"), owner("1", "a"), owner("1", "c"), owner("1", "a")]);
        assert_eq!(dedup_owners(&mut object), ["1", "1"]);
        assert_eq!(object, with(vec![owner("1", "a"), owner("2", "b"), owner("1", "c")]));
        assert!(dedup_owners(&mut object).is_empty());
        assert!(dedup_owners(&mut json!({"metadata": {}})).is_empty());
    }
}
