//! What a Job may look like and what of it may change.

use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::job_policies;
use crate::kinds::prelude::*;
use crate::kinds::workload;
use crate::select::LabelSelector;

/// Most pods at once of an indexed job, and most of its indexes.
const MAX_PARALLELISM: i32 = 100_000;
const MAX_FAILED_INDEXES: i32 = 100_000;
/// From here on a job that counts the failures of each index has fewer pods at once.
const MANY_COMPLETIONS: i32 = 100_000;
const MAX_OF_MANY: i32 = 10_000;
const NEEDS_INDEXES: &str = "requires indexed completion mode";

/// The labels that tell a job's pods from others: those of old, and since when there are more, today's.
const OLD_LABELS: [&str; 2] = ["controller-uid", "job-name"];
const LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// A Job that is made.
pub(super) fn create(job: &batch::Job, errors: &mut Errors) {
    whole(job, true, errors);
}

/// A Job as it stands. Those that were made before there were labels with a prefix may go without.
fn whole(job: &batch::Job, with_prefix: bool, errors: &mut Errors) {
    let empty = batch::JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    if spec.manual_selector != Some(true) {
        generated_selector(job, spec, with_prefix, errors);
    }
    whole_spec(spec, errors);
    indexed_name(job, spec, errors);
}

fn whole_spec(spec: &batch::JobSpec, errors: &mut Errors) {
    let path = spec_path();
    job_spec(spec, &path, errors);
    let at = path.child("selector");
    match &spec.selector {
        None => errors.push(FieldError::required(&at, "")),
        Some(selector) => {
            validate::label_selector(selector, &at, errors);
            workload::selector_matches(selector, &spec.template, &path.child("template"), errors);
        }
    }
}

/// The selector that the server made has to be there still, with the labels that go with it.
fn generated_selector(job: &batch::Job, spec: &batch::JobSpec, with_prefix: bool, errors: &mut Errors) {
    let Some(selector) = &spec.selector else { return };
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let at = spec_path().child("template").child("metadata").child("labels");
    let pairs = |keys: [&'static str; 2]| keys.into_iter().zip([uid, name]);
    let today = with_prefix.then(|| pairs(LABELS)).into_iter().flatten();
    let expected: Vec<(&str, &str)> = pairs(OLD_LABELS).chain(today).collect();
    for (key, value) in &expected {
        match labels.and_then(|l| l.get(*key)) {
            None => errors.push(FieldError::required(&at.key(key), format!("must be '{value}'"))),
            Some(found) if found != value => {
                let shown = validate::shown(&labels);
                errors.push(FieldError::invalid(&at.key(key), shown, format!("must be '{value}'")));
            }
            Some(_) => {}
        }
    }
    // One that asks for more than those labels is a user's own.
    let Ok(selected) = LabelSelector::from_typed(selector) else { return };
    if !selected.matches(|key| expected.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)) {
        let at = spec_path().child("selector");
        errors.push(FieldError::invalid(&at, validate::shown(selector), "`selector` not auto-generated"));
    }
}

/// The name of the last pod of an indexed job is a host's name.
fn indexed_name(job: &batch::Job, spec: &batch::JobSpec, errors: &mut Errors) {
    let (Some("Indexed"), Some(count)) = (spec.completion_mode.as_deref(), spec.completions) else { return };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let pod = format!("{name}-{}", count.max(1) - 1);
    if count > 0 && !names::dns1123_label(&pod).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {pod}");
        errors.push(FieldError::invalid(&FieldPath::root("metadata").child("name"), name, why));
    }
}

/// The spec of a Job or of a CronJob's template, but for its selector.
pub(super) fn job_spec(spec: &batch::JobSpec, path: &FieldPath, errors: &mut Errors) {
    let numbers = [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ];
    for (field, number) in numbers {
        not_negative(&path.child(field), number.unwrap_or_default(), errors);
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let why = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), why));
    }
    if let Some(manager) = &spec.managed_by {
        let at = path.child("managedBy");
        validate::domain_prefixed_path(&at, manager, errors);
        if manager.len() > names::MAX_LABEL {
            errors.push(FieldError::too_long(&at, names::MAX_LABEL));
        }
    }
    mode(spec, path, errors);
    if let Some(policy) = &spec.pod_failure_policy {
        job_policies::failure(policy, spec, &path.child("podFailurePolicy"), errors);
    }
    if let Some(policy) = &spec.success_policy {
        let at = path.child("successPolicy");
        if is_indexed(spec) {
            job_policies::success(policy, spec, &at, errors);
        } else {
            errors.push(FieldError::invalid(&at, validate::shown(policy), NEEDS_INDEXES));
        }
    }
    if let Some(policy) = &spec.pod_replacement_policy {
        let at = path.child("podReplacementPolicy");
        let allowed: &[&str] =
            if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        one_of(&at, policy, allowed, errors);
    }
    template(&spec.template, spec.pod_failure_policy.is_some(), &path.child("template"), errors);
}

fn is_indexed(spec: &batch::JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn mode(spec: &batch::JobSpec, path: &FieldPath, errors: &mut Errors) {
    match spec.completion_mode.as_deref() {
        None | Some("NonIndexed") => {
            let limits = [
                ("backoffLimitPerIndex", spec.backoff_limit_per_index),
                ("maxFailedIndexes", spec.max_failed_indexes),
            ];
            for (field, limit) in limits {
                if let Some(limit) = limit {
                    errors.push(FieldError::invalid(&path.child(field), limit, NEEDS_INDEXES));
                }
            }
        }
        Some("Indexed") => indexed(spec, path, errors),
        Some(other) => {
            let at = path.child("completionMode");
            errors.push(FieldError::not_supported_in_order(&at, other, &["NonIndexed", "Indexed"]));
        }
    }
}

/// What is said of a job of very many indexes.
pub(super) const HARD_TO_TRACK: &str = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes \
     might not be able to track completedIndexes when a big number of indexes fail";

/// Whether a job has so many indexes that its status may not tell of all.
pub(super) fn is_hard_to_track(spec: &batch::JobSpec) -> bool {
    is_indexed(spec)
        && spec.completions.is_some_and(|completions| completions > MANY_COMPLETIONS)
        && spec.parallelism.is_some_and(|at_once| at_once > MAX_OF_MANY)
}

fn at_most(path: &FieldPath, number: Option<i32>, most: i32, when: &str, errors: &mut Errors) {
    if let Some(number) = number.filter(|number| *number > most) {
        let why = format!("must be less than or equal to {most}{when}");
        errors.push(FieldError::invalid(path, number, why));
    }
}

/// How large a job of indexes may be, as its status tells of each.
fn indexed(spec: &batch::JobSpec, path: &FieldPath, errors: &mut Errors) {
    let (at_once, failed) = (spec.parallelism, spec.max_failed_indexes);
    let (at_once_at, failed_at) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    if spec.completions.is_none() {
        let why = "when completion mode is Indexed";
        errors.push(FieldError::required(&path.child("completions"), why));
    }
    at_most(&at_once_at, at_once, MAX_PARALLELISM, " when completion mode is Indexed", errors);
    if let (Some(failed), Some(completions)) = (failed, spec.completions)
        && failed > completions
    {
        errors.push(FieldError::invalid(&failed_at, failed, "must be less than or equal to completions"));
    }
    at_most(&failed_at, failed, MAX_FAILED_INDEXES, "", errors);
    let many = spec.completions.is_some_and(|completions| completions > MANY_COMPLETIONS);
    if many && spec.backoff_limit_per_index.is_some() {
        if failed.is_none() {
            let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
            errors.push(FieldError::required(&failed_at, why));
        }
        let when =
            format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
        at_most(&at_once_at, at_once, MAX_OF_MANY, &when, errors);
        at_most(&failed_at, failed, MAX_OF_MANY, &when, errors);
    }
}

fn template(template: &PodTemplateSpec, may_fail: bool, path: &FieldPath, errors: &mut Errors) {
    validate::pod_template(template, path, errors);
    let policy = template.spec.as_ref().map_or("", |spec| validate::text(&spec.restart_policy));
    let at = path.child("spec").child("restartPolicy");
    match policy {
        // The pod's own default, which nobody asked for.
        "" | "Always" => {
            errors.push(FieldError::required(&at, "valid values: \"OnFailure\", \"Never\""));
        }
        "Never" => {}
        "OnFailure" if may_fail => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(&at, policy, why));
        }
        "OnFailure" => {}
        other => errors.push(FieldError::not_supported_in_order(&at, other, &["OnFailure", "Never"])),
    }
}

/// What is wrong with changing `old` to `new`.
pub(super) fn update(new: &batch::Job, old: &batch::Job, errors: &mut Errors) {
    let (Some(wanted), Some(before), path) = (&new.spec, &old.spec, spec_path()) else { return };
    let labels = before.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    whole(new, LABELS.iter().all(|label| labels.is_some_and(|l| l.contains_key(*label))), errors);
    let at = path.child("completions");
    if !is_indexed(wanted) {
        validate::unchanged(&at, &wanted.completions, &before.completions, errors);
    } else if let Some(count) = wanted.completions.filter(|count| before.completions != Some(*count))
        && wanted.parallelism != Some(count)
    {
        errors.push(FieldError::invalid(&at, count, "can only be modified in tandem with spec.parallelism"));
    }
    validate::unchanged(&path.child("selector"), &wanted.selector, &before.selector, errors);
    let fixed = |template: &PodTemplateSpec| {
        let mut shown = validate::shown(template);
        if suspended_before_start(old) {
            without_placement(&mut shown);
        }
        shown
    };
    if !meta::same(Some(&fixed(&wanted.template)), Some(&fixed(&before.template))) {
        let shown = validate::shown(&wanted.template);
        errors.push(FieldError::invalid(&path.child("template"), shown, names::IMMUTABLE));
    }
    let at = path.child("completionMode");
    validate::unchanged(&at, &wanted.completion_mode, &before.completion_mode, errors);
    let at = path.child("podFailurePolicy");
    validate::unchanged(&at, &wanted.pod_failure_policy, &before.pod_failure_policy, errors);
    let at = path.child("backoffLimitPerIndex");
    validate::unchanged(&at, &wanted.backoff_limit_per_index, &before.backoff_limit_per_index, errors);
    validate::unchanged(&path.child("managedBy"), &wanted.managed_by, &before.managed_by, errors);
    validate::unchanged(&path.child("successPolicy"), &wanted.success_policy, &before.success_policy, errors);
}

/// A job that has not begun may still be told where to run.
fn suspended_before_start(job: &batch::Job) -> bool {
    job.spec.as_ref().is_some_and(|s| s.suspend == Some(true))
        && job.status.as_ref().is_none_or(|s| s.start_time.is_none())
}

fn without_placement(template: &mut Value) {
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
        metadata.remove("labels");
    }
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        spec.remove(field);
    }
    if let Some(affinity) = object(spec, "affinity") {
        affinity.remove("nodeAffinity");
    }
}
