//! ResourceQuotas.

use std::collections::{BTreeMap, BTreeSet};

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
            Column::text(
                "Request",
                "Request represents a minimum amount of cpu/memory that a container may consume.",
            ),
            Column::text(
                "Limit",
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
            ),
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

/// Resources that a quota of a scope can hold; those of vendors go with every scope.
const OF_PODS: &[&str] =
    &["cpu", "limits.cpu", "limits.memory", "memory", "pods", "requests.cpu", "requests.memory"];
const OF_SCOPES: &[(&str, &[&str])] = &[
    ("BestEffort", &["pods"]),
    ("CrossNamespacePodAffinity", OF_PODS),
    ("NotBestEffort", OF_PODS),
    ("NotTerminating", OF_PODS),
    ("PriorityClass", OF_PODS),
    ("Terminating", OF_PODS),
    ("VolumeAttributesClass", &["persistentvolumeclaims", "requests.storage"]),
];

/// What is true of resourcequotas.
pub(super) struct ResourceQuotaRules;

impl Rules for ResourceQuotaRules {
    type Object = core::ResourceQuota;

    const CREATE_ON_UPDATE: bool = true;
    const HAS_STATUS: bool = true;

    fn validate(quota: &Self::Object, errors: &mut Errors) {
        let (Some(spec), path) = (&quota.spec, spec_path()) else { return };
        amounts(spec.hard.as_ref(), &path.child("hard"), errors);
        scopes(spec, &path.child("scopes"), errors);
        selector(spec, &path.child("scopeSelector").child("matchExpressions"), errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let scopes =
            |quota: &Self::Object| quota.spec.as_ref().and_then(|s| s.scopes.clone()).unwrap_or_default();
        let set = |scopes: &[String]| scopes.iter().cloned().collect::<BTreeSet<_>>();
        let (new, old) = (scopes(new), scopes(old));
        if set(&new) != set(&old) {
            let at = spec_path().child("scopes");
            errors.push(FieldError::invalid(&at, validate::shown(&new), names::IMMUTABLE));
        }
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
        validate::resource_name(name, &at, errors);
        if !name.contains('/') && !is_counted(name) {
            errors.push(FieldError::invalid(&at, name.as_str(), "must be a standard resource for quota"));
        }
        validate::resource_amount(name, amount, &at, errors);
    }
}

fn is_counted(name: &str) -> bool {
    COUNTED.contains(&name) || name.starts_with("requests.hugepages-") || name.starts_with("hugepages-")
}

/// Whether a quota of this scope cannot hold one of its resources, for each of them.
fn misplaced<'a>(spec: &'a core::ResourceQuotaSpec, scope: &str) -> impl Iterator<Item = &'a String> {
    let of_scope = OF_SCOPES.iter().find(|(name, _)| *name == scope).map(|(_, resources)| *resources);
    spec.hard.iter().flatten().map(|(name, _)| name).filter(move |name| {
        is_counted(name) && of_scope.is_some_and(|resources| !resources.contains(&name.as_str()))
    })
}

/// Notes scopes that exclude each other.
fn conflicts(spec: &core::ResourceQuotaSpec, named: &[&str], path: &FieldPath, errors: &mut Errors) {
    for (one, other) in OPPOSITES {
        if named.contains(one) && named.contains(other) {
            errors.push(FieldError::invalid(path, validate::shown(&spec.scopes), "conflicting scopes"));
        }
    }
}

fn scopes(spec: &core::ResourceQuotaSpec, path: &FieldPath, errors: &mut Errors) {
    let scopes: Vec<&str> = validate::list(&spec.scopes).iter().map(String::as_str).collect();
    let mut wrong = |why| errors.push(FieldError::invalid(path, validate::shown(&spec.scopes), why));
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            wrong("unsupported scope");
        }
        misplaced(spec, scope).for_each(|_| wrong("unsupported scope applied to resource"));
    }
    conflicts(spec, &scopes, path, errors);
}

/// The expressions of a selector; upstream's paths do not tell which.
fn selector(spec: &core::ResourceQuotaSpec, path: &FieldPath, errors: &mut Errors) {
    let Some(selector) = &spec.scope_selector else { return };
    let expressions = validate::list(&selector.match_expressions);
    for expression in expressions {
        let scope = expression.scope_name.as_str();
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in misplaced(spec, scope) {
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid(path, validate::shown(selector), why));
        }
        scope_expression(expression, path, errors);
    }
    let named: Vec<&str> = expressions.iter().map(|e| e.scope_name.as_str()).collect();
    conflicts(spec, &named, path, errors);
}

fn scope_expression(
    expression: &core::ScopedResourceSelectorRequirement,
    path: &FieldPath,
    errors: &mut Errors,
) {
    const ALONE: &[&str] =
        &["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "Terminating"];
    let (scope, operator) = (expression.scope_name.as_str(), expression.operator.as_str());
    if ALONE.contains(&scope) && operator != "Exists" {
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
