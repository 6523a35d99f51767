//! The status of a replica set.

use std::time::Duration;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Snapshot;
use super::plan::Pods;
use crate::cache::Pod;
use crate::diff;
use crate::plan::{Failure, Plan};
use crate::resource::REPLICA_SET;
use crate::when::left;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Writes the status if it differs, with the condition ReplicaFailure when creating or deleting pods failed.
#[must_use]
pub fn settle(snapshot: &Snapshot, failure: Option<&Failure>, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let set = &*snapshot.set;
    let Some(spec) = &set.spec else { return plan };
    let pods = Pods::of(snapshot, spec);
    let min_ready = Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0));
    let new = status(set, spec, &pods, min_ready, failure, now);
    // A pod becomes available by time alone: look again when the first of them does.
    let waits = pods.ours.iter().filter(|p| p.active() && p.ready());
    if let Some(wait) = waits.filter_map(|p| left(now, p.ready_since()?, min_ready)).min() {
        plan.again_after(wait);
    }
    let current = set.status.clone().unwrap_or_default();
    if new != current {
        let patch = diff::status_patch(&set.metadata, &current, &new);
        plan.push(
            crate::plan::Action::merge(REPLICA_SET, Key::of(&set.metadata), "status", patch).missing_ok(),
        );
    }
    plan
}

fn status(
    set: &ReplicaSet,
    spec: &ReplicaSetSpec,
    pods: &Pods,
    min_ready: Duration,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let active = pods.active();
    let count = |test: &dyn Fn(&Pod) -> bool| number(active.iter().filter(|p| test(p)).count());
    let wanted_labels =
        spec.template.as_ref().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref());
    let labeled = |pod: &Pod| {
        let has = pod.metadata.labels.as_ref();
        wanted_labels.into_iter().flatten().all(|(k, v)| has.and_then(|l| l.get(k)) == Some(v))
    };
    let terminating = pods.ours.iter().filter(|p| p.terminating() && !p.ended()).count();
    ReplicaSetStatus {
        replicas: number(active.len()),
        fully_labeled_replicas: some(count(&labeled)),
        ready_replicas: some(count(&Pod::ready)),
        available_replicas: some(count(&|pod| available(pod, min_ready, now))),
        terminating_replicas: Some(number(terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, failure, now),
    }
}

/// Whether the pod has been ready for `min_ready`.
pub(crate) fn available(pod: &Pod, min_ready: Duration, now: Timestamp) -> bool {
    if !pod.ready() {
        return false;
    }
    min_ready.is_zero() || pod.ready_since().is_some_and(|since| left(now, since, min_ready).is_none())
}

/// Zero is left out, as upstream's `omitempty` does.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn conditions(
    set: &ReplicaSet,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let current = set.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let had = current.iter().find(|c| c.type_ == REPLICA_FAILURE).cloned();
    let mut conditions: Vec<_> = current.into_iter().filter(|c| c.type_ != REPLICA_FAILURE).collect();
    let reason = failure.and_then(|f| match f.action {
        "create" => Some("FailedCreate"),
        "delete" => Some("FailedDelete"),
        _ => None,
    });
    if let (Some(reason), Some(failure)) = (reason, failure) {
        // The first failure stays until there is none, so that a message that varies causes no writes.
        conditions.push(had.unwrap_or_else(|| ReplicaSetCondition {
            type_: REPLICA_FAILURE.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(failure.error.to_string()),
            last_transition_time: Some(Time(now)),
        }));
    }
    (!conditions.is_empty()).then_some(conditions)
}
