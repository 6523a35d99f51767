//! What a metric of a HorizontalPodAutoscaler has to say.

use k8s_openapi::api::autoscaling::v2 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::kinds::prelude::*;

/// What the version of something that is named may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// One with a group.
    Grouped,
    /// One that can be read.
    Readable,
    /// Any: it was there before.
    Any,
}

/// A reference to what is scaled or measured.
pub(super) fn reference(
    of: &api::CrossVersionObjectReference,
    versions: Versions,
    path: &FieldPath,
    errors: &mut Errors,
) {
    for (field, text) in [("kind", &of.kind), ("name", &of.name)] {
        validate::require_segment(&path.child(field), text, "", errors);
    }
    if let Some(why) = wrong_version(of, versions) {
        let version = validate::text(&of.api_version);
        errors.push(FieldError::invalid(&path.child("apiVersion"), version, why));
    }
}

/// What is wrong with the version of something that is named.
pub(super) fn wrong_version(of: &api::CrossVersionObjectReference, versions: Versions) -> Option<String> {
    let version = validate::text(&of.api_version);
    if versions == Versions::Any {
        return None;
    }
    if version.matches('/').count() > 1 {
        return Some(format!("unexpected GroupVersion string: {version}"));
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let bare = versions == Versions::Grouped && group.is_empty();
    bare.then(|| "apiVersion must specify API group".to_owned())
}

/// The types of metrics, and the field that goes with each, in the order in which upstream looks at them.
const TYPES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// All metrics; objects that are measured may be named by these `versions`.
pub(super) fn all(metrics: &[api::MetricSpec], versions: Versions, path: &FieldPath, errors: &mut Errors) {
    for (index, metric) in metrics.iter().enumerate() {
        spec(metric, versions, &path.index(index), errors);
    }
}

fn spec(metric: &api::MetricSpec, versions: Versions, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("type");
    if metric.type_.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric source type"));
    }
    let types: Vec<&str> = TYPES.iter().map(|(kind, _)| *kind).collect();
    one_of(&at, &metric.type_, &types, errors);
    let shown = validate::shown(metric);
    let present: Vec<&str> =
        TYPES.iter().map(|(_, field)| *field).filter(|field| shown.get(*field).is_some()).collect();
    // Of several, upstream looks at the first.
    if let Some(first) = present.first() {
        source(metric, first, versions, &path.child(first), errors);
    }
    let expected = TYPES.iter().find(|(kind, _)| *kind == metric.type_).map(|(_, field)| *field);
    if let Some(expected) = expected.filter(|expected| !present.contains(expected)) {
        let why = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(expected), why));
    }
    if present.len() > 1 {
        for extra in present.iter().filter(|field| Some(**field) != expected) {
            let why = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(extra), why));
        }
    }
}

/// The source in one field of a metric.
fn source(metric: &api::MetricSpec, field: &str, versions: Versions, path: &FieldPath, errors: &mut Errors) {
    match field {
        "object" => metric.object.iter().for_each(|source| {
            reference(&source.described_object, versions, &path.child("describedObject"), errors);
            identifier(&source.metric, &path.child("metric"), errors);
            let why = "must set either a target value or averageValue";
            value_or_average(&source.target, why, path, errors);
        }),
        "external" => metric.external.iter().for_each(|source| {
            identifier(&source.metric, &path.child("metric"), errors);
            let why = "must set either a target value for metric or a per-pod target";
            value_or_average(&source.target, why, path, errors);
            if source.target.value.is_some() && source.target.average_value.is_some() {
                let why = "may not set both a target value for metric and a per-pod target";
                errors.push(FieldError::forbidden(&path.child("target").child("value"), why));
            }
        }),
        "pods" => metric.pods.iter().for_each(|source| {
            identifier(&source.metric, &path.child("metric"), errors);
            let at = path.child("target");
            target(&source.target, &at, errors);
            if source.target.average_value.is_none() {
                let why = "must specify a positive target averageValue";
                errors.push(FieldError::required(&at.child("averageValue"), why));
            }
        }),
        "resource" => metric.resource.iter().for_each(|source| {
            if source.name.is_empty() {
                errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
            }
            use_of_resource(&source.target, path, errors);
        }),
        _ => metric.container_resource.iter().for_each(|source| {
            container(source, path, errors);
            use_of_resource(&source.target, path, errors);
        }),
    }
}

fn container(source: &api::ContainerResourceMetricSource, path: &FieldPath, errors: &mut Errors) {
    if source.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
    } else {
        validate::container_resource_name(&source.name, &path.child("name"), errors);
    }
    let at = path.child("container");
    if source.container.is_empty() {
        errors.push(FieldError::required(&at, "must specify a container"));
    } else {
        refuse(&at, &source.container, names::dns1123_label(&source.container), errors);
    }
}

fn identifier(metric: &api::MetricIdentifier, path: &FieldPath, errors: &mut Errors) {
    validate::require_segment(&path.child("name"), &metric.name, "must specify a metric name", errors);
}

fn target(target: &api::MetricTarget, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("type");
    if target.type_.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric target type"));
    }
    if !matches!(target.type_.as_str(), "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&at, target.type_.as_str(), why));
    }
    let is_positive = |amount: &Quantity| {
        let number = validate::number(amount);
        !number.is_negative() && !number.is_zero()
    };
    for (field, amount) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(amount) = amount.as_ref().filter(|a| !is_positive(a)) {
            errors.push(FieldError::invalid(&path.child(field), amount.0.as_str(), "must be positive"));
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        let at = path.child("averageUtilization");
        errors.push(FieldError::invalid(&at, percent, "must be greater than 0"));
    }
}

fn value_or_average(of: &api::MetricTarget, missing: &str, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("target");
    target(of, &at, errors);
    if of.value.is_none() && of.average_value.is_none() {
        errors.push(FieldError::required(&at.child("averageValue"), missing));
    }
}

fn use_of_resource(of: &api::MetricTarget, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("target");
    target(of, &at, errors);
    match (of.average_utilization, &of.average_value) {
        (None, None) => {
            let why = "must set either a target raw value or a target utilization";
            errors.push(FieldError::required(&at.child("averageUtilization"), why));
        }
        (Some(_), Some(_)) => {
            let why = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(&at.child("averageValue"), why));
        }
        _ => {}
    }
}
