//! When a Job has failed or succeeded before all of its pods have ended.

use k8s_openapi::api::batch::v1 as batch;

use super::indexes;
use crate::kinds::prelude::*;

const MAX_RULES: usize = 20;
const MAX_CONDITIONS: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_INDEXES_TEXT: usize = 64 * 1024;

/// A text that has to be one of `allowed`; who leaves it out is told of all.
fn named(path: &FieldPath, text: &str, allowed: &[&str], errors: &mut Errors) {
    if text.is_empty() {
        let quoted: Vec<String> = allowed.iter().map(|word| format!("{word:?}")).collect();
        errors.push(FieldError::required(path, format!("valid values: [{}]", quoted.join(" "))));
    } else {
        one_of(path, text, allowed, errors);
    }
}

/// What to do about pods that fail.
pub(super) fn failure(
    policy: &batch::PodFailurePolicy,
    spec: &batch::JobSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let all = path.child("rules");
    if policy.rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&all, policy.rules.len(), MAX_RULES));
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        failure_rule(rule, spec, &all.index(index), errors);
    }
}

fn failure_rule(
    rule: &batch::PodFailurePolicyRule,
    spec: &batch::JobSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let at = path.child("action");
    named(&at, &rule.action, &["Count", "FailIndex", "FailJob", "Ignore"], errors);
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        let why = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(&at, rule.action.as_str(), why));
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(codes, spec, &path.child("onExitCodes"), errors);
    }
    let conditions = validate::list(&rule.on_pod_conditions);
    let all = path.child("onPodConditions");
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(&all, conditions.len(), MAX_CONDITIONS));
    }
    for (index, pattern) in conditions.iter().enumerate() {
        let at = all.index(index);
        refuse(&at.child("type"), &pattern.type_, names::qualified_name(&pattern.type_), errors);
        named(&at.child("status"), validate::text(&pattern.status), &["False", "True", "Unknown"], errors);
    }
    let why = match (&rule.on_exit_codes, conditions.is_empty()) {
        (Some(_), false) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (None, true) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(FieldError::invalid_whole(path, why));
}

fn exit_codes(
    codes: &batch::PodFailurePolicyOnExitCodesRequirement,
    spec: &batch::JobSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    named(&path.child("operator"), &codes.operator, &["In", "NotIn"], errors);
    let pod = spec.template.spec.as_ref();
    let known = |name: &str| {
        pod.is_some_and(|pod| {
            pod.containers.iter().chain(validate::list(&pod.init_containers)).any(|c| c.name == name)
        })
    };
    if let Some(name) = codes.container_name.as_deref().filter(|name| !known(name)) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, why));
    }
    let at = path.child("values");
    let values = &codes.values;
    if values.is_empty() {
        errors.push(FieldError::invalid(&at, json!([]), "at least one value is required"));
    } else if values.len() > MAX_EXIT_CODES {
        errors.push(FieldError::too_many(&at, values.len(), MAX_EXIT_CODES));
    }
    let mut seen = HashSet::new();
    for (index, value) in values.iter().enumerate() {
        let at = at.index(index);
        if codes.operator == "In" && *value == 0 {
            errors.push(FieldError::invalid(&at, 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(value) {
            errors.push(FieldError::duplicate(&at, *value));
        }
    }
    if !values.is_sorted() {
        errors.push(FieldError::invalid(&at, validate::shown(values), "must be ordered"));
    }
}

/// When a job of indexes has succeeded, though not all of them have.
pub(super) fn success(
    policy: &batch::SuccessPolicy,
    spec: &batch::JobSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let all = path.child("rules");
    if policy.rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&all, why));
    }
    if policy.rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&all, policy.rules.len(), MAX_RULES));
    }
    // What it would have to be less than is missing, which is said already.
    let Some(completions) = spec.completions else { return };
    for (index, rule) in policy.rules.iter().enumerate() {
        success_rule(rule, completions, &all.index(index), errors);
    }
}

fn success_rule(rule: &batch::SuccessPolicyRule, completions: i32, path: &FieldPath, errors: &mut Errors) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, why));
    }
    let mut named = 0;
    if let Some(text) = &rule.succeeded_indexes {
        let at = path.child("succeededIndexes");
        if text.len() > MAX_INDEXES_TEXT {
            errors.push(FieldError::too_long(&at, MAX_INDEXES_TEXT));
        }
        match indexes::count(text, completions) {
            Ok(count) => named = count,
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(&at, text.as_str(), why));
            }
        }
    }
    let Some(count) = rule.succeeded_count else { return };
    let at = path.child("succeededCount");
    not_negative(&at, i64::from(count), errors);
    if count > completions {
        let why =
            format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.push(FieldError::invalid(&at, count, why));
    }
    if rule.succeeded_indexes.is_some() && i64::from(count) > named {
        let why = format!(
            "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.push(FieldError::invalid(&at, count, why));
    }
}
