//! What a replica set has to do: take and release pods, then create or delete the difference.

use std::sync::Arc;

use carrack_client::{Key, Note, NoteKind};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use serde_json::{Value, json};

use super::{Snapshot, order};
use crate::cache::Pod;
use crate::owner::{self, Claim};
use crate::plan::{Action, Plan, Step};
use crate::resource::{POD, REPLICA_SET};
use crate::select;

/// Pods created or deleted in one round; the rest follows in the next.
const BURST: usize = 500;

/// The pods of a snapshot by how they stand to its set.
pub(super) struct Pods {
    /// Owned and matching, or about to be adopted.
    pub(super) ours: Vec<Arc<Pod>>,
    pub(super) adopt: Vec<Arc<Pod>>,
    pub(super) release: Vec<Arc<Pod>>,
}

impl Pods {
    pub(super) fn of(snapshot: &Snapshot, spec: &ReplicaSetSpec) -> Self {
        let mut pods = Self { ours: Vec::new(), adopt: Vec::new(), release: Vec::new() };
        for pod in &snapshot.pods {
            let matches = select::matches(&spec.selector, pod.metadata.labels.as_ref());
            match owner::claim(&snapshot.set.metadata, &pod.metadata, matches) {
                Claim::Ours => pods.ours.push(Arc::clone(pod)),
                // A pod that has ended is no use to adopt.
                Claim::Adopt if pod.active() => {
                    pods.ours.push(Arc::clone(pod));
                    pods.adopt.push(Arc::clone(pod));
                }
                Claim::Release => pods.release.push(Arc::clone(pod)),
                Claim::Adopt | Claim::Other => {}
            }
        }
        pods
    }

    /// Those that count as replicas.
    pub(super) fn active(&self) -> Vec<Arc<Pod>> {
        self.ours.iter().filter(|pod| pod.active()).cloned().collect()
    }
}

/// Adoptions and releases, then the missing pods or the deletion of those too many. The status is
/// [`super::settle`]'s, once it is known how this went.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let set = &*snapshot.set;
    let Some(spec) = &set.spec else {
        plan.note("the replica set has no spec");
        return plan;
    };
    let pods = Pods::of(snapshot, spec);
    claims(set, &pods, &mut plan);
    if set.metadata.deletion_timestamp.is_some() {
        plan.note("being deleted: pods are left to the garbage collector");
        return plan;
    }
    let active = pods.active();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if active.len() < wanted {
        let missing = wanted - active.len();
        plan.note(format!("{} of {wanted} pods, creating {}", active.len(), missing.min(BURST)));
        let creations = (0..missing.min(BURST)).map(|_| creation(set, spec)).collect();
        plan.steps.push(Step::SlowStart(creations));
    } else if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST);
        plan.note(format!("{} of {wanted} pods, deleting {surplus}", active.len()));
        let victims = order::to_delete(&active, &snapshot.siblings, surplus, now);
        plan.push_all(victims.iter().map(|pod| deletion(set, pod)).collect());
    }
    plan
}

fn claims(set: &ReplicaSet, pods: &Pods, plan: &mut Plan) {
    if !pods.adopt.is_empty() {
        plan.push(owner::confirm(REPLICA_SET, &set.metadata));
        let reference = owner::controller_ref(&REPLICA_SET, &set.metadata);
        let adoptions = pods.adopt.iter().map(|pod| owner::adopt(reference.clone(), POD, &pod.metadata));
        plan.push_all(adoptions.collect());
    }
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    plan.push_all(pods.release.iter().map(|pod| owner::release(uid, POD, &pod.metadata)).collect());
}

fn creation(set: &ReplicaSet, spec: &ReplicaSetSpec) -> Action {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let failed = Note::new(set, NoteKind::Warning, "FailedCreate", "Error creating: {}");
    Action::create(POD, namespace, pod_of(set, spec))
        .tells(Note::new(set, NoteKind::Normal, "SuccessfulCreate", "Created pod: {}"))
        .tells_failure(failed)
}

/// A pod from the set's template.
fn pod_of(set: &ReplicaSet, spec: &ReplicaSetSpec) -> Value {
    let template = spec.template.as_ref();
    let meta = template.and_then(|t| t.metadata.as_ref());
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let mut metadata = json!({
        "generateName": format!("{name}-"),
        "namespace": set.metadata.namespace,
        "ownerReferences": [owner::controller_ref(&REPLICA_SET, &set.metadata)],
    });
    if let Some(labels) = meta.and_then(|m| m.labels.as_ref()) {
        metadata["labels"] = json!(labels);
    }
    if let Some(annotations) = meta.and_then(|m| m.annotations.as_ref()) {
        metadata["annotations"] = json!(annotations);
    }
    if let Some(finalizers) = meta.and_then(|m| m.finalizers.as_ref()) {
        metadata["finalizers"] = json!(finalizers);
    }
    let spec = template.and_then(|t| t.spec.as_ref());
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

fn deletion(set: &ReplicaSet, pod: &Pod) -> Action {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let done = Note::new(set, NoteKind::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
    let failed = Note::new(set, NoteKind::Warning, "FailedDelete", "Error deleting: {}");
    Action::delete(POD, Key::of(&pod.metadata), pod.metadata.uid.clone()).tells(done).tells_failure(failed)
}
