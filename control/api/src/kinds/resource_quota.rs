//! ResourceQuotas.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::prelude::*;

/// The row of resourcequotas.
pub(super) const RESOURCE: Resource = Resource {
    short_names: &["quota"],
    subresources: &[status(gvk("", "v1", "ResourceQuota"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Request", "What may be requested, and what of it is."),
            Column::text("Limit", "What limits may sum up to, and what they do."),
            Column::AGE,
        ],
        cells,
    },
    ..row!(core "v1", "ResourceQuota", "resourcequota", "resourcequotas", core::ResourceQuota, ResourceQuotaRules)
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut hard: Vec<(&String, &Value)> =
        object.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten().collect();
    hard.sort_by_key(|(name, _)| *name);
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, most) in hard {
        let used = object.pointer("/status/used").and_then(|used| used.get(name)).and_then(Value::as_str);
        let text = format!("{name}: {}/{}", used.unwrap_or("0"), most.as_str().unwrap_or_default());
        if name.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
    }
    vec![meta::name(object).into(), requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
}

/// Resources without a domain that a quota can count.
pub(crate) const COUNTED: &[&str] = &[
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Resources of which there are only whole ones.
const WHOLE: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
/// Scopes of which a quota cannot have both.
const OPPOSITES: &[(&str, &str)] = &[("BestEffort", "NotBestEffort"), ("NotTerminating", "Terminating")];

/// What is true of resourcequotas.
pub(super) struct ResourceQuotaRules;

impl Rules for ResourceQuotaRules {
    type Object = core::ResourceQuota;

    const CREATE_ON_UPDATE: bool = true;
    const HAS_STATUS: bool = true;

    fn validate(quota: &Self::Object, errors: &mut Errors) {
        let (Some(spec), path) = (&quota.spec, spec_path()) else { return };
        amounts(spec.hard.as_ref(), &path.child("hard"), errors);
        scopes(validate::list(&spec.scopes), &path.child("scopes"), errors);
        let Some(selector) = &spec.scope_selector else { return };
        let all = path.child("scopeSelector").child("matchExpressions");
        for (index, expression) in validate::list(&selector.match_expressions).iter().enumerate() {
            scope_expression(expression, &all.index(index), errors);
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let sorted = |quota: &Self::Object| {
            let mut scopes = quota.spec.as_ref().and_then(|s| s.scopes.clone()).unwrap_or_default();
            scopes.sort_unstable();
            scopes
        };
        validate::unchanged(&spec_path().child("scopes"), &sorted(new), &sorted(old), errors);
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, status_path()) else { return };
        amounts(status.hard.as_ref(), &path.child("hard"), errors);
        amounts(status.used.as_ref(), &path.child("used"), errors);
    }
}

fn amounts(amounts: Option<&BTreeMap<String, Quantity>>, path: &FieldPath, errors: &mut Errors) {
    for (name, amount) in amounts.into_iter().flatten() {
        let at = path.key(name);
        refuse(&at, name, names::qualified_name(name), errors);
        let known = COUNTED.contains(&name.as_str())
            || name.starts_with("requests.hugepages-")
            || name.starts_with("hugepages-")
            || name.starts_with("count/");
        if !name.contains('/') && !known {
            errors.push(FieldError::invalid(&at, name.as_str(), "must be a standard resource for quota"));
        }
        let number = validate::number(amount);
        if number.is_negative() {
            errors.push(FieldError::invalid(&at, amount.0.as_str(), names::NOT_NEGATIVE));
        }
        if WHOLE.contains(&name.as_str()) && !number.is_whole() {
            errors.push(FieldError::invalid(&at, amount.0.as_str(), "must be an integer"));
        }
    }
}

fn scopes(scopes: &[String], path: &FieldPath, errors: &mut Errors) {
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.push(FieldError::invalid(path, validate::shown(&scopes), "unsupported scope"));
        }
    }
    for (one, other) in OPPOSITES {
        if [one, other].iter().all(|name| scopes.iter().any(|scope| scope == *name)) {
            errors.push(FieldError::invalid(path, validate::shown(&scopes), "conflicting scopes"));
        }
    }
}

fn scope_expression(
    expression: &core::ScopedResourceSelectorRequirement,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let (scope, operator) = (expression.scope_name.as_str(), expression.operator.as_str());
    if !SCOPES.contains(&scope) {
        errors.push(FieldError::invalid(&path.child("scopeName"), scope, "unsupported scope"));
    }
    if !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && operator != "Exists" {
        let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                   ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                   ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(&path.child("operator"), operator, why));
    }
    let (at, empty) = (path.child("values"), validate::list(&expression.values).is_empty());
    match operator {
        "In" | "NotIn" if empty => {
            let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(FieldError::required(&at, why));
        }
        "Exists" | "DoesNotExist" if !empty => {
            let shown = validate::shown(&expression.values);
            let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(FieldError::invalid(&at, shown, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"));
        }
    }
}
