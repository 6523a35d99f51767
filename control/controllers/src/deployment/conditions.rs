//! Conditions of a deployment, with upstream's types and reasons, since clients compare them.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::numbers;
use crate::when::since;

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const AVAILABLE: &str = "Available";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) const COMPLETE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";
const FOUND: &str = "FoundNewReplicaSet";
pub(super) const CREATED: &str = "NewReplicaSetCreated";
pub(super) const FAILED_CREATE: &str = "FailedCreate";

/// The condition of this type.
pub(super) fn get<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == type_)
}

/// Removes the condition of this type.
pub(super) fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != type_);
    }
    status.conditions = status.conditions.take().filter(|c| !c.is_empty());
}

/// Sets a condition; one with the same status and reason stays as it is, so that nothing is written for nothing.
pub(super) fn set(
    status: &mut DeploymentStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let had = get(status, type_);
    if had.is_some_and(|c| c.status == value && c.reason.as_deref() == Some(reason)) {
        return;
    }
    let unchanged = had.filter(|c| c.status == value).and_then(|c| c.last_transition_time.clone());
    let condition = DeploymentCondition {
        type_: type_.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: unchanged.or(Some(Time(now))),
    };
    remove(status, type_);
    status.conditions.get_or_insert_default().push(condition);
}

/// A rollout whose set was there already starts to progress.
pub(super) fn found_new(status: &mut DeploymentStatus, message: String, now: Timestamp) {
    if get(status, PROGRESSING).is_none() {
        set(status, PROGRESSING, "True", FOUND, message, now);
    }
}

/// Records that the rollout is paused, or that it goes on.
pub(super) fn pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    if numbers::deadline(deployment).is_none() {
        return;
    }
    let reason = get(status, PROGRESSING).and_then(|c| c.reason.clone());
    // A rollout that is stuck stays stuck: a pause does not restart its time.
    if reason.as_deref() == Some(TIMED_OUT) {
        return;
    }
    match (numbers::paused(deployment), reason.as_deref() == Some(PAUSED)) {
        (true, false) => set(status, PROGRESSING, "Unknown", PAUSED, "Deployment is paused".into(), now),
        (false, true) => {
            set(status, PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".into(), now);
        }
        _ => {}
    }
}

/// Takes over why a replica set cannot make its pods.
pub(super) fn failure(status: &mut DeploymentStatus, found: Option<&ReplicaSetCondition>) {
    let Some(found) = found else {
        remove(status, REPLICA_FAILURE);
        return;
    };
    let had = get(status, REPLICA_FAILURE);
    if had.is_some_and(|c| c.status == found.status && c.reason == found.reason) {
        return;
    }
    let condition = DeploymentCondition {
        type_: REPLICA_FAILURE.into(),
        status: found.status.clone(),
        reason: found.reason.clone(),
        message: found.message.clone(),
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time.clone(),
    };
    remove(status, REPLICA_FAILURE);
    status.conditions.get_or_insert_default().push(condition);
}

/// Whether the rollout made no progress for longer than its deadline.
pub(super) fn timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(deadline) = numbers::deadline(deployment) else { return false };
    let Some(condition) = get(status, PROGRESSING) else { return false };
    match condition.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => condition.last_update_time.as_ref().is_some_and(|t| since(now, t.0) > deadline),
    }
}
