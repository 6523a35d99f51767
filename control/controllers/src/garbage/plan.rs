//! What becomes of one object, given its owners and dependents.

use carrack_client::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use super::{Dependent, OwnerState, Snapshot};
use crate::diff;
use crate::plan::{Action, Plan, Propagation, Verb};

/// The finalizer of an object that waits for its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object that leaves its dependents behind.
pub(super) const ORPHAN: &str = "orphan";

/// Whether the object is being deleted and waits for its dependents.
pub(super) fn waits_for_dependents(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && has(meta, FOREGROUND)
}

/// Whether the object is being deleted and leaves its dependents behind.
pub(super) fn leaves_dependents(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && has(meta, ORPHAN)
}

fn has(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

/// Deletes the object, changes its references, or lets its deletion go on.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::none();
    let meta = &snapshot.meta;
    if leaves_dependents(meta) {
        orphan(snapshot, &mut plan);
    } else if waits_for_dependents(meta) {
        let blocking = snapshot.dependents.iter().filter(|d| d.blocks).count();
        if blocking == 0 {
            plan.push(drop_finalizer(snapshot, FOREGROUND));
        } else {
            plan.note(format!("waits for {blocking} dependents"));
        }
    } else if meta.deletion_timestamp.is_none() && !snapshot.owners.is_empty() {
        by_owners(snapshot, &mut plan);
    }
    plan
}

fn by_owners(snapshot: &Snapshot, plan: &mut Plan) {
    let of = |state: OwnerState| snapshot.owners.iter().filter(move |(_, s)| *s == state).map(|(o, _)| o);
    let solid: Vec<&OwnerReference> = of(OwnerState::Solid).collect();
    let waiting = of(OwnerState::Waiting).count();
    if !solid.is_empty() {
        if solid.len() < snapshot.owners.len() {
            plan.note("some owners are gone, others keep it");
            plan.push(owners(snapshot, &solid));
        }
        return;
    }
    if waiting > 0 && !snapshot.dependents.is_empty() {
        if snapshot.dependents.iter().any(|d| d.waits) {
            // Objects that own each other would wait for each other for ever.
            let unblocked: Vec<OwnerReference> = snapshot.owners.iter().map(|(o, _)| unblock(o)).collect();
            plan.note("breaking a cycle of owners");
            plan.push(owners(snapshot, &unblocked.iter().collect::<Vec<_>>()));
            // That write changes the revision, so that the deletion may compare only the uid.
            plan.push(delete(snapshot, Propagation::Foreground, false));
        } else {
            plan.push(delete(snapshot, Propagation::Foreground, true));
        }
        return;
    }
    let policy = if has(&snapshot.meta, ORPHAN) {
        Propagation::Orphan
    } else if has(&snapshot.meta, FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    plan.note("every owner is gone");
    plan.push(delete(snapshot, policy, true));
}

fn unblock(owner: &OwnerReference) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(false), ..owner.clone() }
}

/// Removes the reference from every dependent, then the finalizer.
fn orphan(snapshot: &Snapshot, plan: &mut Plan) {
    let uid = snapshot.meta.uid.as_deref().unwrap_or_default();
    plan.push_all(snapshot.dependents.iter().map(|d| abandon(d, uid)).collect());
    plan.push(drop_finalizer(snapshot, ORPHAN));
}

fn abandon(dependent: &Dependent, owner: &str) -> Action {
    let rest: Vec<_> = dependent.owners.iter().filter(|o| o.uid != owner).collect();
    let guard = json!({ "uid": dependent.uid, "resourceVersion": dependent.revision });
    let mut body = json!({ "metadata": guard });
    body["metadata"]["ownerReferences"] = json!(rest);
    Action::merge(dependent.resource.clone(), dependent.key.clone(), "", body).missing_ok()
}

fn drop_finalizer(snapshot: &Snapshot, finalizer: &str) -> Action {
    let rest: Vec<_> = snapshot.meta.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
    patch(snapshot, "finalizers", json!(rest))
}

fn owners(snapshot: &Snapshot, wanted: &[&OwnerReference]) -> Action {
    patch(snapshot, "ownerReferences", json!(wanted))
}

fn patch(snapshot: &Snapshot, field: &str, value: serde_json::Value) -> Action {
    let mut body = json!({ "metadata": diff::guard(&snapshot.meta) });
    body["metadata"][field] = value;
    Action::merge(snapshot.resource.clone(), Key::of(&snapshot.meta), "", body).missing_ok()
}

fn delete(snapshot: &Snapshot, policy: Propagation, same_revision: bool) -> Action {
    let meta = &snapshot.meta;
    let verb = Verb::Delete {
        uid: meta.uid.clone(),
        revision: meta.resource_version.clone().filter(|_| same_revision),
        grace: None,
        propagation: Some(policy),
    };
    Action::new(snapshot.resource.clone(), Key::of(meta), verb).missing_ok()
}
