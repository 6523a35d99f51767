//! PodDisruptionBudgets.

use k8s_openapi::api::policy::v1 as policy;

use super::prelude::*;

/// The row of poddisruptionbudgets.
pub(super) const RESOURCE: Resource = Resource {
    short_names: &["pdb"],
    subresources: &[status(gvk("policy", "v1", "PodDisruptionBudget"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Min Available", "The minimum number of pods that must be available."),
            Column::text("Max Unavailable", "The maximum number of pods that may be unavailable."),
            Column::integer(
                "Allowed Disruptions",
                "Calculated number of pods that may be disrupted at this time.",
            ),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "policy" / "v1",
        "PodDisruptionBudget",
        "poddisruptionbudget",
        "poddisruptionbudgets",
        "policy",
        policy::PodDisruptionBudget,
        DisruptionBudgetRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let shown = |pointer: &str| match object.pointer(pointer) {
        None | Some(Value::Null) => "N/A".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    vec![
        meta::name(object).into(),
        shown("/spec/minAvailable").into(),
        shown("/spec/maxUnavailable").into(),
        read::integer(object, "/status/disruptionsAllowed").into(),
        age(object, now),
    ]
}

/// What is true of poddisruptionbudgets.
pub(super) struct DisruptionBudgetRules;

impl Rules for DisruptionBudgetRules {
    type Object = policy::PodDisruptionBudget;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const NAME: NameRule = NameRule::PathSegment;
    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_create(budget: &mut Value) {
        if let Some(fields) = budget.as_object_mut() {
            let status = json!({
                "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
            });
            fields.insert("status".into(), status);
        }
    }

    // A time that is left out is refused as such, which takes a time that can be read.
    fn prepare_status_update(new: &mut Value, _old: &Value) {
        let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
            set(condition, "lastTransitionTime", Timestamp::UNIX_EPOCH.to_string());
        }
    }

    fn validate(budget: &Self::Object, errors: &mut Errors) {
        let (Some(spec), path) = (&budget.spec, spec_path()) else { return };
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            let why = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(&path, validate::shown(spec), why));
        }
        for (field, value) in
            [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)]
        {
            if let Some(value) = value {
                validate::part_of_whole(value, &path.child(field), errors);
            }
        }
        if let Some(selector) = &spec.selector {
            validate::label_selector(selector, &path.child("selector"), errors);
        }
        if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
            let at = path.child("unhealthyPodEvictionPolicy");
            one_of(&at, policy, &["AlwaysAllow", "IfHealthyBudget"], errors);
        }
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, status_path()) else { return };
        validate::conditions(validate::list(&status.conditions), &path.child("conditions"), errors);
        let all = [
            ("disruptionsAllowed", i64::from(status.disruptions_allowed)),
            ("currentHealthy", i64::from(status.current_healthy)),
            ("desiredHealthy", i64::from(status.desired_healthy)),
            ("expectedPods", i64::from(status.expected_pods)),
        ];
        counts(&path, &all, errors);
    }
}
