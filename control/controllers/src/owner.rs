//! Ownership: whose an object is, and the UID-guarded patches by which a controller takes it or lets it go.

use carrack_client::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::plan::{Action, Verb};
use crate::resource::Resource;

/// The reference to the controlling owner.
#[must_use]
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The reference that makes `owner` the controller of an object.
#[must_use]
pub(crate) fn controller_ref(resource: &Resource, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: resource.api_version(),
        kind: resource.kind.to_string(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// How an object stands to a controller that might own it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is owned and matches.
    Ours,
    /// It has no controller and matches: take it.
    Adopt,
    /// It is owned and no longer matches: let it go.
    Release,
    /// It is none of this controller's business.
    Other,
}

/// How `object` stands to `owner`, whose selector matches it or not.
#[must_use]
pub(crate) fn claim(owner: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Claim {
    let deleting = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(controller) if Some(&controller.uid) != owner.uid.as_ref() => Claim::Other,
        Some(_) if matches => Claim::Ours,
        // An owner on its way out leaves its objects as they are, for the garbage collector.
        Some(_) if deleting => Claim::Other,
        Some(_) => Claim::Release,
        None if deleting || !matches || object.deletion_timestamp.is_some() => Claim::Other,
        None => Claim::Adopt,
    }
}

/// Makes `owner` the controller of the object, if that is still the one with `uid`.
#[must_use]
pub(crate) fn adopt(owner: OwnerReference, resource: Resource, object: &ObjectMeta) -> Action {
    let body = json!({ "metadata": { "uid": object.uid, "ownerReferences": [owner] } });
    Action::strategic(resource, Key::of(object), "", body)
}

/// Removes the reference to the owner with uid `owner`, if the object is still the one it was.
#[must_use]
pub(crate) fn release(owner: &str, resource: Resource, object: &ObjectMeta) -> Action {
    let reference = json!([{ "$patch": "delete", "uid": owner }]);
    let body = json!({ "metadata": { "uid": object.uid, "ownerReferences": reference } });
    Action::strategic(resource, Key::of(object), "", body).missing_ok()
}

/// Reads the owner past the caches before it adopts anything: it may have been deleted and its name taken again.
#[must_use]
pub(crate) fn confirm(resource: Resource, owner: &ObjectMeta) -> Action {
    let uid = owner.uid.clone().unwrap_or_default();
    Action::new(resource, Key::of(owner), Verb::Confirm { uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, owner: Option<&str>, deleting: bool) -> ObjectMeta {
        let reference = owner.map(|uid| OwnerReference {
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        });
        let deleted = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        ObjectMeta {
            uid: Some(uid.into()),
            owner_references: reference.map(|r| vec![r]),
            deletion_timestamp: deleting.then_some(deleted),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn claims_follow_owner_selector_and_deletion() {
        let owner = meta("o", None, false);
        let leaving = meta("o", None, true);
        let cases = [
            (&owner, meta("x", Some("o"), false), true, Claim::Ours),
            (&owner, meta("x", Some("o"), false), false, Claim::Release),
            (&owner, meta("x", Some("other"), false), true, Claim::Other),
            (&owner, meta("x", None, false), true, Claim::Adopt),
            (&owner, meta("x", None, false), false, Claim::Other),
            (&owner, meta("x", None, true), true, Claim::Other),
            (&leaving, meta("x", None, false), true, Claim::Other),
            (&leaving, meta("x", Some("o"), false), false, Claim::Other),
            (&leaving, meta("x", Some("o"), false), true, Claim::Ours),
        ];
        for (owner, object, matches, expected) in cases {
            assert_eq!(claim(owner, &object, matches), expected, "{object:?} {matches}");
        }
    }
}
