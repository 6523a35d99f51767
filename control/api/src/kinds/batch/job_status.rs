//! What the status of a Job may say, and what of it may change.
//!
//! Jobs may be run by controllers of other people (`managedBy`), so that what clients rely on is held here: what has ended
//! stays ended, and says so in full. Most rules are asked only where a write changes what they are about: a status that was
//! wrong before can still be written, and one that the spec has overtaken can be mended step by step.

use k8s_openapi::api::batch::v1 as batch;

use super::indexes;
use crate::kinds::prelude::*;

/// A status, and what its conditions say.
struct View<'a> {
    spec: &'a batch::JobSpec,
    status: &'a batch::JobStatus,
    complete: bool,
    failed: bool,
    failing: bool,
    succeeding: bool,
}

impl<'a> View<'a> {
    fn new(spec: &'a batch::JobSpec, status: &'a batch::JobStatus) -> Self {
        let holds = |kind: &str| {
            validate::list(&status.conditions).iter().any(|c| c.type_ == kind && c.status == "True")
        };
        View {
            spec,
            status,
            complete: holds("Complete"),
            failed: holds("Failed"),
            failing: holds("FailureTarget"),
            succeeding: holds("SuccessCriteriaMet"),
        }
    }

    fn finished(&self) -> bool {
        self.complete || self.failed
    }

    fn completed_indexes(&self) -> &str {
        validate::text(&self.status.completed_indexes)
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }
}

/// What is wrong with changing the status of `old` to that of `new`.
pub(super) fn update(new: &batch::Job, old: &batch::Job, errors: &mut Errors) {
    let (no_spec, no_status) = (batch::JobSpec::default(), batch::JobStatus::default());
    let spec = new.spec.as_ref().unwrap_or(&no_spec);
    let new = View::new(spec, new.status.as_ref().unwrap_or(&no_status));
    let old = View::new(spec, old.status.as_ref().unwrap_or(&no_status));
    let path = status_path();
    amounts(new.status, &path, errors);
    uncounted(new.status, &path.child("uncountedTerminatedPods"), errors);
    times(&new, &old, &path, errors);
    end(&new, &old, &path, errors);
    named_indexes(&new, &old, &path, errors);
    pods_left(&new, &old, &path, errors);
    criteria(&new, &path, errors);
    changes(&new, &old, &path, errors);
}

fn amounts(status: &batch::JobStatus, path: &FieldPath, errors: &mut Errors) {
    let all = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ];
    for (field, count) in all {
        not_negative(&path.child(field), i64::from(count.unwrap_or_default()), errors);
    }
}

/// Pods that have ended and are not counted yet: each is there once, in one of both lists.
fn uncounted(status: &batch::JobStatus, path: &FieldPath, errors: &mut Errors) {
    let Some(pods) = &status.uncounted_terminated_pods else { return };
    let mut seen = HashSet::new();
    for (field, uids) in [("succeeded", &pods.succeeded), ("failed", &pods.failed)] {
        let all = path.child(field);
        for (index, uid) in validate::list(uids).iter().enumerate() {
            if uid.is_empty() {
                errors.push(FieldError::invalid(&all.index(index), "", "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(&all.index(index), uid.as_str()));
            }
        }
    }
}

/// Says of the conditions as a whole that they may not be so.
fn refuse_conditions(is_so: bool, why: &str, path: &FieldPath, errors: &mut Errors) {
    if is_so {
        errors.push(FieldError::invalid_whole(&path.child("conditions"), why));
    }
}

/// Which ends go together, and when they were.
fn times(new: &View<'_>, old: &View<'_>, path: &FieldPath, errors: &mut Errors) {
    let completes = new.complete != old.complete;
    let both = new.complete && new.failed && (completes || new.failed != old.failed);
    refuse_conditions(both, "cannot set Complete=True and Failed=true conditions", path, errors);
    let both = new.complete && new.failing && (completes || new.failing != old.failing);
    refuse_conditions(both, "cannot set Complete=True and FailureTarget=true conditions", path, errors);
    let (start, completion) = (&new.status.start_time, &new.status.completion_time);
    let retimed = *completion != old.status.completion_time;
    let at = path.child("completionTime");
    if completes || retimed {
        match completion {
            Some(time) if !new.complete => {
                let why = "cannot set completionTime when there is no Complete=True condition";
                errors.push(FieldError::invalid(&at, validate::shown(time), why));
            }
            None if new.complete => {
                errors.push(FieldError::required(&at, "completionTime is required for Complete jobs"));
            }
            _ => {}
        }
    }
    if let (Some(start), Some(completion)) = (start, completion)
        && (retimed || new.status.start_time != old.status.start_time)
        && completion.0 < start.0
    {
        let why = "completionTime cannot be set before startTime";
        errors.push(FieldError::invalid(&at, validate::shown(completion), why));
    }
}

/// What has to be said of a job that has ended.
fn end(new: &View<'_>, old: &View<'_>, path: &FieldPath, errors: &mut Errors) {
    let status = new.status;
    let unannounced = new.failed
        && !new.failing
        && (new.failed != old.failed || status.failed_indexes != old.status.failed_indexes);
    let why = "cannot set Failed=True condition without the FailureTarget=true condition";
    refuse_conditions(unannounced, why, path, errors);
    let unannounced =
        new.complete && !new.succeeding && (new.complete != old.complete || new.succeeding != old.succeeding);
    let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
    refuse_conditions(unannounced, why, path, errors);
    if !new.finished() {
        return;
    }
    let ends = !old.finished();
    let active = status.active.unwrap_or_default();
    if active > 0 && (ends || active != old.status.active.unwrap_or_default()) {
        let why = "active>0 is invalid for finished job";
        errors.push(FieldError::invalid(&path.child("active"), active, why));
    }
    // A job of nothing that waits for good never begins.
    let never_begins = new.spec.suspend == Some(true) && new.spec.completions == Some(0);
    if status.start_time.is_none() && (ends || old.status.start_time.is_some()) && !never_begins {
        let why = "startTime is required for finished job";
        errors.push(FieldError::required(&path.child("startTime"), why));
    }
    let Some(pods) = &status.uncounted_terminated_pods else { return };
    let some = !validate::list(&pods.failed).is_empty() || !validate::list(&pods.succeeded).is_empty();
    if some && (ends || status.uncounted_terminated_pods != old.status.uncounted_terminated_pods) {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        let at = path.child("uncountedTerminatedPods");
        errors.push(FieldError::invalid(&at, validate::shown(pods), why));
    }
}

/// The indexes that have succeeded and those that have failed.
fn named_indexes(new: &View<'_>, old: &View<'_>, path: &FieldPath, errors: &mut Errors) {
    let (completed, failed) = (new.completed_indexes(), new.status.failed_indexes.as_deref());
    let completed_change = completed != old.completed_indexes();
    let failed_change = failed != old.status.failed_indexes.as_deref();
    let (completed_at, failed_at) = (path.child("completedIndexes"), path.child("failedIndexes"));
    let limited = new.spec.backoff_limit_per_index.is_some();
    let mut wrong = |at: &FieldPath, text: &str, why: &str| errors.push(FieldError::invalid(at, text, why));
    if let Some(completions) = new.spec.completions {
        if let Err(why) = indexes::count(completed, completions)
            && completed_change
        {
            wrong(&completed_at, completed, &format!("error parsing completedIndexes: {why}"));
        }
        if let Some(failed) = failed.filter(|_| failed_change && limited)
            && let Err(why) = indexes::count(failed, completions)
        {
            wrong(&failed_at, failed, &format!("error parsing failedIndexes: {why}"));
        }
    }
    if completed_change && !completed.is_empty() && !new.is_indexed() {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        wrong(&completed_at, completed, why);
    }
    let Some(failed) = failed.filter(|_| failed_change || completed_change) else { return };
    if failed_change && !limited {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        wrong(&failed_at, failed, why);
    }
    if let Some(both) = new.spec.completions.and_then(|most| indexes::shared(completed, failed, most)) {
        let why = format!("failedIndexes and completedIndexes overlap at index: {both}");
        wrong(&failed_at, failed, &why);
    }
}

/// Pods that are still there.
fn pods_left(new: &View<'_>, old: &View<'_>, path: &FieldPath, errors: &mut Errors) {
    let (status, before) = (new.status, old.status);
    let changes = new.finished() != old.finished() || status.terminating != before.terminating;
    if let Some(going) = status.terminating.filter(|going| *going > 0)
        && new.finished()
        && changes
    {
        let why = "terminating>0 is invalid for finished job";
        errors.push(FieldError::invalid(&path.child("terminating"), going, why));
    }
    let active = status.active.unwrap_or_default();
    let changes = status.ready != before.ready || active != before.active.unwrap_or_default();
    if let Some(ready) = status.ready.filter(|ready| *ready > active && changes) {
        let why = "cannot set more ready pods than active";
        errors.push(FieldError::invalid(&path.child("ready"), ready, why));
    }
}

/// That a job has succeeded, though its pods may still run, goes with success alone.
fn criteria(new: &View<'_>, path: &FieldPath, errors: &mut Errors) {
    let why = "cannot set SuccessCriteriaMet=True and Failed=true conditions";
    refuse_conditions(new.succeeding && new.failed, why, path, errors);
    let why = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
    refuse_conditions(new.succeeding && new.failing, why, path, errors);
    let unmet = new.spec.success_policy.is_some() && !new.succeeding && new.complete;
    let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
    refuse_conditions(unmet, why, path, errors);
}

/// What may not go back.
fn changes(new: &View<'_>, old: &View<'_>, path: &FieldPath, errors: &mut Errors) {
    let ends = [
        ("Failed", old.failed, new.failed),
        ("Complete", old.complete, new.complete),
        ("FailureTarget", old.failing, new.failing),
    ];
    for (kind, was, is) in ends {
        let why = format!("cannot disable the terminal {kind}=True condition");
        refuse_conditions(was && !is, &why, path, errors);
    }
    let (status, before) = (new.status, old.status);
    // The successes of indexes that are no longer wanted are not counted any more.
    let elastic = new.is_indexed() && new.spec.completions == new.spec.parallelism;
    let counters = [
        ("failed", status.failed, before.failed, false),
        ("succeeded", status.succeeded, before.succeeded, elastic),
    ];
    for (field, now, then, may_fall) in counters {
        let (now, then) = (now.unwrap_or_default(), then.unwrap_or_default());
        if now < then && !may_fall {
            let why = format!("cannot decrease the {field} counter");
            errors.push(FieldError::invalid(&path.child(field), now, why));
        }
    }
    if let (Some(now), Some(then)) = (&status.completion_time, &before.completion_time)
        && now != then
    {
        let at = path.child("completionTime");
        errors.push(FieldError::invalid(&at, validate::shown(now), "completionTime cannot be mutated"));
    }
    let restarted = before.start_time.is_some() && before.start_time != status.start_time;
    if restarted && new.spec.suspend != Some(true) {
        let why = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required(&path.child("startTime"), why));
    }
    let why = "cannot disable the SuccessCriteriaMet=True condition";
    refuse_conditions(old.succeeding && !new.succeeding, why, path, errors);
    let late = old.complete && !old.succeeding && new.succeeding;
    let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
    refuse_conditions(late, why, path, errors);
}
