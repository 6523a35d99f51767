//! LimitRanges.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::prelude::*;

/// The row of limitranges.
pub(super) const RESOURCE: Resource = Resource {
    short_names: &["limits"],
    printer: Printer::CREATED,
    ..row!(core "v1", "LimitRange", "limitrange", "limitranges", core::LimitRange, LimitRangeRules)
};

/// What is true of limitranges.
pub(super) struct LimitRangeRules;

impl Rules for LimitRangeRules {
    type Object = core::LimitRange;

    const CREATE_ON_UPDATE: bool = true;

    fn default(range: &mut Value) {
        let Some(spec) = range.as_object_mut().and_then(|fields| object(fields, "spec")) else { return };
        for item in objects(spec, "limits") {
            if defaults::text(item, "type") == "Container" {
                container_defaults(item);
            }
        }
    }

    fn validate(range: &Self::Object, errors: &mut Errors) {
        let Some(spec) = &range.spec else { return };
        let all = spec_path().child("limits");
        let mut seen = HashSet::new();
        for (index, item) in spec.limits.iter().enumerate() {
            let at = all.index(index);
            if !seen.insert(&item.type_) {
                errors.push(FieldError::duplicate(&at.child("type"), item.type_.as_str()));
            }
            limits(item, &at, errors);
        }
    }
}

/// What is left out of a container's limits follows from what is there: the default from the maximum, the default
/// request from the default, and the request from the minimum.
fn container_defaults(item: &mut Fields) {
    for (target, source) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let Some(values) = item.get(source).and_then(Value::as_object).cloned() else { continue };
        let Some(fields) = make_object(item, target) else { continue };
        for (name, value) in values {
            set(fields, &name, value);
        }
    }
}

type Amounts = Option<BTreeMap<String, Quantity>>;

fn limits(item: &core::LimitRangeItem, path: &FieldPath, errors: &mut Errors) {
    if require(&path.child("type"), &item.type_, errors) {
        refuse(&path.child("type"), &item.type_, names::qualified_name(&item.type_), errors);
    }
    for (field, amounts) in [
        ("max", &item.max),
        ("min", &item.min),
        ("default", &item.default),
        ("defaultRequest", &item.default_request),
        ("maxLimitRequestRatio", &item.max_limit_request_ratio),
    ] {
        for name in amounts.iter().flat_map(BTreeMap::keys) {
            refuse(&path.child(field).key(name), name, names::qualified_name(name), errors);
        }
    }
    if item.type_ == "Pod" {
        for (field, amounts) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
            if amounts.as_ref().is_some_and(|a| !a.is_empty()) {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(FieldError::forbidden(&path.child(field), why));
            }
        }
    }
    if item.type_ == "PersistentVolumeClaim" {
        let has = |amounts: &Amounts| amounts.as_ref().is_some_and(|a| a.contains_key("storage"));
        if !has(&item.min) && !has(&item.max) {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(FieldError::required(&path.child("limits"), why));
        }
    }
    in_order(item, path, errors);
    ratios(item, path, errors);
}

/// What may not be above what: a lower and a higher amount, each with its word, and the field that is to blame.
fn in_order(item: &core::LimitRangeItem, path: &FieldPath, errors: &mut Errors) {
    let (min, max) = ((&item.min, "min"), (&item.max, "max"));
    let (limit, request) = ((&item.default, "default"), (&item.default_request, "default request"));
    let order = [
        (min, max, "min"),
        (min, request, "defaultRequest"),
        (request, max, "defaultRequest"),
        (request, (&item.default, "default limit"), "defaultRequest"),
        (min, limit, "default"),
        (limit, max, "default"),
    ];
    for ((lows, low_word), (highs, high_word), field) in order {
        for (name, low) in lows.iter().flatten() {
            let Some(high) = highs.as_ref().and_then(|h| h.get(name)) else { continue };
            if validate::number(low) > validate::number(high) {
                let why = format!("{low_word} value {} is greater than {high_word} value {}", low.0, high.0);
                let shown = if high_word == "default request" { high } else { low };
                errors.push(FieldError::invalid(&path.child(field).key(name), shown.0.as_str(), why));
            }
        }
    }
}

fn ratios(item: &core::LimitRangeItem, path: &FieldPath, errors: &mut Errors) {
    for (name, ratio) in item.max_limit_request_ratio.iter().flatten() {
        let at = path.child("maxLimitRequestRatio").key(name);
        let value = validate::number(ratio);
        if value.milli() < 1000 {
            let why = format!("ratio {} is less than 1", ratio.0);
            errors.push(FieldError::invalid(&at, ratio.0.as_str(), why));
        }
        let get = |amounts: &Amounts| amounts.as_ref().and_then(|a| a.get(name)).map(validate::number);
        if let (Some(min), Some(max)) = (get(&item.min), get(&item.max))
            && !min.is_zero()
            && value.milli() > max.milli().saturating_mul(1000) / min.milli().max(1)
        {
            let why = format!("ratio {} is greater than max/min", ratio.0);
            errors.push(FieldError::invalid(&at, ratio.0.as_str(), why));
        }
    }
}
