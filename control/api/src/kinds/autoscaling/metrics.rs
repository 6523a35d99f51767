//! What a metric of a HorizontalPodAutoscaler has to say.

use k8s_openapi::api::autoscaling::v2 as api;

use crate::kinds::prelude::*;

/// A reference to what is scaled or measured.
pub(super) fn reference(of: &api::CrossVersionObjectReference, path: &FieldPath, errors: &mut Errors) {
    for (field, text) in [("kind", &of.kind), ("name", &of.name)] {
        let at = path.child(field);
        if require(&at, text, errors) {
            refuse(&at, text, names::path_segment(text, false), errors);
        }
    }
    let version = validate::text(&of.api_version);
    if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(&path.child("apiVersion"), version, why));
    }
}

const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The field that goes with each type.
const FIELDS: &[&str] = &["containerResource", "external", "object", "pods", "resource"];

/// All metrics.
pub(super) fn all(metrics: &[api::MetricSpec], path: &FieldPath, errors: &mut Errors) {
    for (index, metric) in metrics.iter().enumerate() {
        spec(metric, &path.index(index), errors);
    }
}

fn spec(metric: &api::MetricSpec, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("type");
    if metric.type_.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric source type"));
    }
    one_of(&at, &metric.type_, TYPES, errors);
    let shown = validate::shown(metric);
    let present: Vec<&str> = FIELDS.iter().copied().filter(|field| shown.get(*field).is_some()).collect();
    let expected = TYPES.iter().position(|t| *t == metric.type_).map(|at| FIELDS[at]);
    if let Some(expected) = expected.filter(|expected| !present.contains(expected)) {
        let why = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(expected), why));
    }
    if present.len() > 1 {
        for extra in present.iter().filter(|field| Some(**field) != expected) {
            let why = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(extra), why));
        }
        return;
    }
    if let Some(source) = &metric.object {
        let at = path.child("object");
        reference(&source.described_object, &at.child("describedObject"), errors);
        identifier(&source.metric, &at.child("metric"), errors);
        value_or_average(
            &source.target,
            "must set either a target value or a target averageValue",
            &at,
            errors,
        );
    }
    if let Some(source) = &metric.external {
        let at = path.child("external");
        identifier(&source.metric, &at.child("metric"), errors);
        let why = "must set either a target value for metric or a per-pod target";
        value_or_average(&source.target, why, &at, errors);
    }
    if let Some(source) = &metric.pods {
        let at = path.child("pods");
        identifier(&source.metric, &at.child("metric"), errors);
        target(&source.target, &at.child("target"), errors);
        if !source.target.average_value.as_ref().is_some_and(is_positive) {
            let why = "must specify a positive target averageValue";
            errors.push(FieldError::required(&at.child("target").child("averageValue"), why));
        }
    }
    if let Some(source) = &metric.resource {
        let at = path.child("resource");
        resource(&source.name, &source.target, &at, errors);
    }
    if let Some(source) = &metric.container_resource {
        let at = path.child("containerResource");
        if source.container.is_empty() {
            errors.push(FieldError::required(&at.child("container"), "must specify a container"));
        }
        resource(&source.name, &source.target, &at, errors);
    }
}

fn identifier(metric: &api::MetricIdentifier, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("name");
    if metric.name.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric name"));
    } else {
        refuse(&at, &metric.name, names::path_segment(&metric.name, false), errors);
    }
    if let Some(selector) = &metric.selector {
        validate::label_selector(selector, &path.child("selector"), errors);
    }
}

fn is_positive(amount: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> bool {
    let number = validate::number(amount);
    !number.is_negative() && !number.is_zero()
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
    match (&of.value, &of.average_value) {
        (None, None) => errors.push(FieldError::required(&at.child("averageValue"), missing)),
        (Some(_), Some(_)) => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&at.child("value"), why));
        }
        _ => {}
    }
}

fn resource(name: &str, of: &api::MetricTarget, path: &FieldPath, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
    }
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
