//! The order of one round for a deployment.

use std::time::Duration;

use carrack_client::{Key, NoteKind};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DeploymentStatus;

use super::conditions::{self, PROGRESSING};
use super::round::Round;
use super::{Snapshot, numbers, status};
use crate::diff;
use crate::plan::{Action, Failure, Plan};
use crate::resource::{DEPLOYMENT, REPLICA_SET};
use crate::select;

/// What to do to the replica sets. The status follows in [`settle`], when it is known how that went.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    decide(snapshot, now).finish()
}

/// Writes the status that belongs to the decisions of [`plan`], if it differs; `failure` is what went wrong with
/// them.
#[must_use]
pub fn settle(snapshot: &Snapshot, failure: Option<&Failure>, now: Timestamp) -> Plan {
    let round = decide(snapshot, now);
    let mut status = round.status;
    if let Some(failure) = failure.filter(|f| f.action == "create" && f.what == REPLICA_SET.full_name()) {
        // A name that is taken shows in the cache in the next round; everything else people should see.
        let taken = failure.error.is(409, "AlreadyExists");
        if numbers::deadline(&snapshot.deployment).is_some() && !taken {
            let message = failure.error.to_string();
            conditions::set(&mut status, PROGRESSING, "False", conditions::FAILED_CREATE, message, now);
        }
    }
    let mut plan = Plan::none();
    plan.report.again = round.plan.report.again;
    let meta = &snapshot.deployment.metadata;
    let current = snapshot.deployment.status.clone().unwrap_or_default();
    if status != current {
        let body = status_body(snapshot, &current, &status);
        plan.push(Action::merge(DEPLOYMENT, Key::of(meta), "status", body).missing_ok());
    }
    if status.collision_count != current.collision_count {
        // The name for the next round is known now.
        plan.again_after(Duration::ZERO);
    }
    plan
}

/// The status is this controller's alone, so that only the uid guards it: the round may have changed the revision
/// annotation a moment ago, and the generation that was observed is part of the status.
fn status_body(snapshot: &Snapshot, old: &DeploymentStatus, new: &DeploymentStatus) -> serde_json::Value {
    let meta = &snapshot.deployment.metadata;
    let mut body = diff::status_patch(meta, old, new);
    if let Some(guard) = body["metadata"].as_object_mut() {
        guard.remove("resourceVersion");
    }
    body
}

fn decide(snapshot: &Snapshot, now: Timestamp) -> Round<'_> {
    let deployment = &*snapshot.deployment;
    let selects_all = deployment.spec.as_ref().is_none_or(|s| select::matches_everything(&s.selector));
    if selects_all {
        return refuse(snapshot, now);
    }
    let mut round = Round::begin(snapshot, now);
    if deployment.metadata.deletion_timestamp.is_some() {
        round.plan.note("being deleted: only the status is kept");
        round.count();
        return round;
    }
    conditions::pause(deployment, &mut round.status, now);
    if numbers::paused(deployment) || round.scaling() {
        round.number_current();
        round.scale();
        if numbers::paused(deployment) {
            round.plan.note("paused: scaled only");
            round.forget_history();
        }
        round.count();
        return round;
    }
    roll_out(&mut round);
    round.count();
    let changed = round.changed();
    round.judge_progress();
    if !changed && status::complete(deployment, &round.status) {
        round.forget_history();
    }
    round
}

fn roll_out(round: &mut Round<'_>) {
    let existed = round.new.is_some();
    let taken = if numbers::recreates(round.deployment) {
        round.number_current();
        round.recreate().is_err()
    } else {
        let taken = !existed && round.create_current().is_err();
        if !taken {
            round.number_current();
            round.roll();
        }
        taken
    };
    let created = !existed && !taken && round.new.is_some();
    if let (true, Some(new)) = (created && numbers::deadline(round.deployment).is_some(), round.new) {
        let message = format!("Created new replica set \"{}\"", round.sets[new].name());
        let now = round.now;
        conditions::set(&mut round.status, PROGRESSING, "True", conditions::CREATED, message, now);
    }
}

/// A deployment that selects everything is left alone, and told so.
fn refuse(snapshot: &Snapshot, now: Timestamp) -> Round<'_> {
    let mut round = Round::begin(snapshot, now);
    round.sets.clear();
    round.new = None;
    round.plan = Plan::none();
    let generation = snapshot.deployment.metadata.generation;
    if round.status.observed_generation < generation {
        round.status.observed_generation = generation;
        let text = "This deployment is selecting all pods. A non-empty selector is required.";
        let note = round.note(NoteKind::Warning, "SelectingAll", text);
        round.plan.tell(note);
    }
    round
}
