//! What is true of HorizontalPodAutoscalers, in the form of v2.

use k8s_openapi::api::autoscaling::v2 as api;

use super::metrics::{self, Versions};
use crate::kinds::prelude::*;

const MAX_WINDOW_SECONDS: i32 = 3600;
const MAX_PERIOD_SECONDS: i32 = 1800;

/// The rules.
pub(in crate::kinds) struct AutoscalerRules;

impl Rules for AutoscalerRules {
    type Object = api::HorizontalPodAutoscaler;

    const HAS_STATUS: bool = true;

    fn warnings(_object: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        has_no_controller(warnings);
    }

    fn default(object_: &mut Value) {
        let Some(spec) = spec_of(object_) else { return };
        set(spec, "minReplicas", 1);
        if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
            spec.insert("metrics".into(), json!([{"type": "Resource", "resource": cpu}]));
        }
        let Some(behavior) = object(spec, "behavior") else { return };
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        if let Some(up) = make_object(behavior, "scaleUp") {
            set(up, "stabilizationWindowSeconds", 0);
            set(up, "selectPolicy", "Max");
            set(up, "policies", json!([pods, percent]));
        }
        if let Some(down) = make_object(behavior, "scaleDown") {
            set(down, "selectPolicy", "Max");
            set(down, "policies", json!([percent]));
        }
    }

    fn prepare_create(object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            fields.insert("status".into(), json!({"desiredReplicas": 0}));
        }
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        autoscaler(object, None, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        autoscaler(new, old.spec.as_ref(), errors);
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, status_path()) else { return };
        let all = [
            ("currentReplicas", i64::from(status.current_replicas.unwrap_or_default())),
            ("desiredReplicas", i64::from(status.desired_replicas)),
        ];
        counts(&path, &all, errors);
    }
}

/// An autoscaler; what was there before may stay.
fn autoscaler(
    object: &api::HorizontalPodAutoscaler,
    old: Option<&api::HorizontalPodAutoscalerSpec>,
    errors: &mut Errors,
) {
    let empty = api::HorizontalPodAutoscalerSpec::default();
    let (spec, path) = (object.spec.as_ref().unwrap_or(&empty), spec_path());
    let (at, most) = (path.child("maxReplicas"), spec.max_replicas);
    // To none at all is behind a gate that is closed in 1.35.
    let lowest = if old.is_some_and(|old| old.min_replicas == Some(0)) { 0 } else { 1 };
    if let Some(least) = spec.min_replicas.filter(|least| *least < lowest) {
        let why = format!("must be greater than or equal to {lowest}");
        errors.push(FieldError::invalid(&path.child("minReplicas"), least, why));
    }
    if most < 1 {
        errors.push(FieldError::invalid(&at, most, "must be greater than 0"));
    }
    if spec.min_replicas.is_some_and(|least| most < least) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&at, most, why));
    }
    let at = path.child("scaleTargetRef");
    metrics::reference(&spec.scale_target_ref, target_versions(spec, old), &at, errors);
    let (at, found) = (path.child("metrics"), validate::list(&spec.metrics));
    metrics::all(found, measured_versions(old), &at, errors);
    let from_none = found.iter().any(|metric| matches!(metric.type_.as_str(), "Object" | "External"));
    if spec.min_replicas == Some(0) && !from_none {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(&at, why));
    }
    if let Some(behavior) = &spec.behavior {
        let at = path.child("behavior");
        for (field, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(rules) = rules {
                scaling_rules(rules, &at.child(field), errors);
            }
        }
    }
}

/// What is scaled has a group, unless it is the one kind of the core that can be scaled or is what it was.
fn target_versions(
    new: &api::HorizontalPodAutoscalerSpec,
    old: Option<&api::HorizontalPodAutoscalerSpec>,
) -> Versions {
    let target = &new.scale_target_ref;
    let same = |old: &api::HorizontalPodAutoscalerSpec| {
        let before = &old.scale_target_ref;
        validate::text(&before.api_version) == validate::text(&target.api_version)
            && before.kind == target.kind
    };
    match () {
        () if old.is_some_and(same) => Versions::Any,
        () if target.kind == "ReplicationController" => Versions::Readable,
        () => Versions::Grouped,
    }
}

/// Objects that are measured may be of the core; once one was wrong, it may stay.
fn measured_versions(old: Option<&api::HorizontalPodAutoscalerSpec>) -> Versions {
    let wrong = |metric: &api::MetricSpec| {
        let object = metric.object.as_ref().filter(|_| metric.type_ == "Object");
        object.is_some_and(|o| metrics::wrong_version(&o.described_object, Versions::Readable).is_some())
    };
    let before = old.map(|old| validate::list(&old.metrics)).unwrap_or_default();
    if before.iter().any(wrong) { Versions::Any } else { Versions::Readable }
}

fn scaling_rules(rules: &api::HPAScalingRules, path: &FieldPath, errors: &mut Errors) {
    if let Some(seconds) = rules.stabilization_window_seconds {
        let at = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.push(FieldError::invalid(&at, seconds, "must be greater than or equal to zero"));
        } else if seconds > MAX_WINDOW_SECONDS {
            let why = format!("must be less than or equal to {MAX_WINDOW_SECONDS}");
            errors.push(FieldError::invalid(&at, seconds, why));
        }
    }
    if let Some(policy) = &rules.select_policy {
        one_of(&path.child("selectPolicy"), policy, &["Disabled", "Max", "Min"], errors);
    }
    let all = path.child("policies");
    let policies = validate::list(&rules.policies);
    if policies.is_empty() {
        errors.push(FieldError::required(&all, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let at = all.index(index);
        one_of(&at.child("type"), &policy.type_, &["Percent", "Pods"], errors);
        for (field, number) in [("value", policy.value), ("periodSeconds", policy.period_seconds)] {
            if number <= 0 {
                errors.push(FieldError::invalid(&at.child(field), number, "must be greater than zero"));
            }
        }
        if policy.period_seconds > MAX_PERIOD_SECONDS {
            let why = format!("must be less than or equal to {MAX_PERIOD_SECONDS}");
            errors.push(FieldError::invalid(&at.child("periodSeconds"), policy.period_seconds, why));
        }
    }
    if let Some(tolerance) = rules.tolerance.as_ref().filter(|t| validate::number(t).is_negative()) {
        let at = path.child("tolerance");
        errors.push(FieldError::invalid(&at, tolerance.0.as_str(), names::NOT_NEGATIVE));
    }
}
