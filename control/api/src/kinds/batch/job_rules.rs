//! What a Job may look like and what of it may change.

use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::kinds::prelude::*;
use crate::kinds::workload;

/// Most pods at once of an indexed job, and most of its indexes.
const MAX_PARALLELISM: i32 = 100_000;
const MAX_FAILED_INDEXES: i32 = 100_000;
const MAX_RULES: usize = 20;
/// The label by which generated selectors go.
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// A Job without its metadata.
pub(super) fn job(job: &batch::Job, errors: &mut Errors) {
    let empty = batch::JobSpec::default();
    let (spec, path) = (job.spec.as_ref().unwrap_or(&empty), spec_path());
    if spec.manual_selector != Some(true) {
        generated_selector(job, spec, errors);
    }
    indexed_name(job, spec, errors);
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
fn generated_selector(job: &batch::Job, spec: &batch::JobSpec, errors: &mut Errors) {
    let Some(selector) = &spec.selector else { return };
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let at = spec_path().child("template").child("metadata").child("labels");
    for (key, value) in [(UID_LABEL, uid), ("batch.kubernetes.io/job-name", name)] {
        match labels.and_then(|l| l.get(key)) {
            None => errors.push(FieldError::required(&at.key(key), format!("must be '{value}'"))),
            Some(found) if found != value => {
                let shown = validate::shown(&labels);
                errors.push(FieldError::invalid(&at.key(key), shown, format!("must be '{value}'")));
            }
            Some(_) => {}
        }
    }
    let selected = selector.match_labels.as_ref().and_then(|l| l.get(UID_LABEL).or(l.get("controller-uid")));
    if selected.map(String::as_str) != Some(uid) {
        let at = spec_path().child("selector");
        errors.push(FieldError::invalid(&at, validate::shown(selector), "`selector` not auto-generated"));
    }
}

/// The name of the last pod of an indexed job is a host's name.
fn indexed_name(job: &batch::Job, spec: &batch::JobSpec, errors: &mut Errors) {
    let (Some("Indexed"), Some(count)) = (spec.completion_mode.as_deref(), spec.completions) else { return };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let pod = format!("{name}-{}", count.max(1) - 1);
    for why in names::dns1123_label(&pod) {
        let why = format!("will not able to create pod with invalid DNS label: {why}");
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
    mode(spec, path, errors);
    if let Some(policy) = &spec.pod_failure_policy {
        failure_policy(policy, spec, &path.child("podFailurePolicy"), errors);
    }
    if let Some(policy) = &spec.pod_replacement_policy {
        let at = path.child("podReplacementPolicy");
        let allowed: &[&str] =
            if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        one_of(&at, policy, allowed, errors);
    }
    if let Some(manager) = &spec.managed_by {
        let at = path.child("managedBy");
        refuse(&at, manager, names::domain_prefixed_path(manager), errors);
        if manager.len() > names::MAX_LABEL {
            errors.push(FieldError::too_long(&at, names::MAX_LABEL));
        }
    }
    template(&spec.template, spec.pod_failure_policy.is_some(), &path.child("template"), errors);
}

fn mode(spec: &batch::JobSpec, path: &FieldPath, errors: &mut Errors) {
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if let Some(mode) = &spec.completion_mode {
        one_of(&path.child("completionMode"), mode, &["Indexed", "NonIndexed"], errors);
    }
    if indexed {
        if spec.completions.is_none() {
            let why = "when completion mode is Indexed";
            errors.push(FieldError::required(&path.child("completions"), why));
        }
        if let Some(number) = spec.parallelism.filter(|n| *n > MAX_PARALLELISM) {
            let why =
                format!("must be less than or equal to {MAX_PARALLELISM} when completion mode is Indexed");
            errors.push(FieldError::invalid(&path.child("parallelism"), number, why));
        }
    } else if let Some(limit) = spec.backoff_limit_per_index {
        let why = "requires indexed completion mode";
        errors.push(FieldError::invalid(&path.child("backoffLimitPerIndex"), limit, why));
    }
    if let Some(most) = spec.max_failed_indexes {
        let at = path.child("maxFailedIndexes");
        if spec.backoff_limit_per_index.is_none() {
            let why = "when maxFailedIndexes is specified";
            errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), why));
        }
        if spec.completions.is_some_and(|completions| most > completions) {
            errors.push(FieldError::invalid(&at, most, "must be less than or equal to completions"));
        }
        if most > MAX_FAILED_INDEXES {
            let why = format!("must be less than or equal to {MAX_FAILED_INDEXES}");
            errors.push(FieldError::invalid(&at, most, why));
        }
    }
    if let Some(policy) = &spec.success_policy {
        let at = path.child("successPolicy");
        if !indexed {
            let why = "requires indexed completion mode";
            errors.push(FieldError::invalid(&at, validate::shown(policy), why));
        } else if policy.rules.is_empty() {
            let why = "at least one rules must be specified when the successPolicy is specified";
            errors.push(FieldError::required(&at.child("rules"), why));
        } else if policy.rules.len() > MAX_RULES {
            errors.push(FieldError::too_many(&at.child("rules"), policy.rules.len(), MAX_RULES));
        }
    }
}

fn failure_policy(
    policy: &batch::PodFailurePolicy,
    spec: &batch::JobSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let all = path.child("rules");
    if policy.rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&all, policy.rules.len(), MAX_RULES));
    }
    let pod = spec.template.spec.as_ref();
    let container = |name: &str| {
        pod.is_some_and(|pod| {
            pod.containers.iter().chain(validate::list(&pod.init_containers)).any(|c| c.name == name)
        })
    };
    for (index, rule) in policy.rules.iter().enumerate() {
        let at = all.index(index);
        let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
        require_one_of(&at.child("action"), &rule.action, &actions, errors);
        if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
            let why = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(&at.child("action"), rule.action.as_str(), why));
        }
        let conditions = validate::list(&rule.on_pod_conditions);
        match (&rule.on_exit_codes, conditions.is_empty()) {
            (Some(_), false) => {
                let why = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.push(FieldError::invalid(&at, validate::shown(rule), why));
            }
            (None, true) => {
                let why = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.push(FieldError::invalid(&at, validate::shown(rule), why));
            }
            _ => {}
        }
        if let Some(codes) = &rule.on_exit_codes {
            let at = at.child("onExitCodes");
            require_one_of(&at.child("operator"), &codes.operator, &["In", "NotIn"], errors);
            if let Some(name) = codes.container_name.as_deref().filter(|name| !container(name)) {
                let why = "must be one of the container or initContainer names in the pod template";
                errors.push(FieldError::invalid(&at.child("containerName"), name, why));
            }
            if codes.values.is_empty() {
                let why = "at least one value is required";
                errors.push(FieldError::invalid(&at.child("values"), json!([]), why));
            }
            if codes.operator == "In" && codes.values.contains(&0) {
                let index = codes.values.iter().position(|v| *v == 0).unwrap_or_default();
                let why = "must not be 0 for the In operator";
                errors.push(FieldError::invalid(&at.child("values").index(index), 0, why));
            }
        }
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
        other => errors.push(FieldError::not_supported(&at, other, &["Never", "OnFailure"])),
    }
}

/// What is wrong with changing `old` to `new`.
pub(super) fn update(new: &batch::Job, old: &batch::Job, errors: &mut Errors) {
    job(new, errors);
    let (Some(wanted), Some(before), path) = (&new.spec, &old.spec, spec_path()) else { return };
    let indexed = wanted.completion_mode.as_deref() == Some("Indexed");
    let elastic = indexed
        && wanted.completions == wanted.parallelism
        && wanted.completions.is_some()
        && before.completions.is_some();
    if !elastic {
        validate::unchanged(&path.child("completions"), &wanted.completions, &before.completions, errors);
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
