//! What is true of HorizontalPodAutoscalers, in the form of v2.

use k8s_openapi::api::autoscaling::v2 as api;

use super::metrics;
use crate::kinds::prelude::*;

const MAX_WINDOW_SECONDS: i32 = 3600;
const MAX_PERIOD_SECONDS: i32 = 1800;

/// The rules.
pub(in crate::kinds) struct AutoscalerRules;

impl Rules for AutoscalerRules {
    type Object = api::HorizontalPodAutoscaler;

    const HAS_STATUS: bool = true;

    fn warnings(_object: &Self::Object, warnings: &mut Vec<String>) {
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
        let empty = api::HorizontalPodAutoscalerSpec::default();
        let (spec, path) = (object.spec.as_ref().unwrap_or(&empty), spec_path());
        let (at, most) = (path.child("maxReplicas"), spec.max_replicas);
        if let Some(least) = spec.min_replicas.filter(|least| *least < 1) {
            let why = "must be greater than or equal to 1";
            errors.push(FieldError::invalid(&path.child("minReplicas"), least, why));
        }
        if most < 1 {
            errors.push(FieldError::invalid(&at, most, "must be greater than 0"));
        }
        if spec.min_replicas.is_some_and(|least| most < least) {
            let why = "must be greater than or equal to `minReplicas`";
            errors.push(FieldError::invalid(&at, most, why));
        }
        metrics::reference(&spec.scale_target_ref, &path.child("scaleTargetRef"), errors);
        metrics::all(validate::list(&spec.metrics), &path.child("metrics"), errors);
        if let Some(behavior) = &spec.behavior {
            let at = path.child("behavior");
            for (field, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
                if let Some(rules) = rules {
                    scaling_rules(rules, &at.child(field), errors);
                }
            }
        }
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
}
