//! LimitRanges.

use std::collections::{BTreeMap, BTreeSet};

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
            let kind = item.type_.as_str();
            let wrong = names::qualified_name(kind);
            if wrong.is_empty() && !kind.contains('/') && !TYPES.contains(&kind) {
                let why = "must be a standard limit type or fully qualified";
                errors.push(FieldError::invalid(&at.child("type"), kind, why));
            }
            refuse(&at.child("type"), kind, wrong, errors);
            if !seen.insert(kind) {
                errors.push(FieldError::duplicate(&at.child("type"), kind));
            }
            limits(item, &at, errors);
        }
    }
}

/// What limits are of, without a domain.
const TYPES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];

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
    let of_pods = matches!(item.type_.as_str(), "Container" | "Pod");
    let names = |field: &str, amounts: &Amounts, errors: &mut Errors| {
        for name in amounts.iter().flat_map(BTreeMap::keys) {
            let at = path.child(field).key(name);
            if of_pods {
                validate::container_resource_name(name, &at, errors);
            } else {
                validate::resource_name(name, &at, errors);
            }
        }
    };
    names("max", &item.max, errors);
    names("min", &item.min, errors);
    for (field, amounts) in [("default", &item.default), ("defaultRequest", &item.default_request)] {
        if item.type_ != "Pod" {
            names(field, amounts, errors);
        } else if amounts.as_ref().is_some_and(|a| !a.is_empty()) {
            let why = "may not be specified when `type` is 'Pod'";
            errors.push(FieldError::forbidden(&path.child(field), why));
        }
    }
    let has = |amounts: &Amounts| amounts.as_ref().is_some_and(|a| a.contains_key("storage"));
    if item.type_ == "PersistentVolumeClaim" && !has(&item.min) && !has(&item.max) {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&path.child("limits"), why));
    }
    names("maxLimitRequestRatio", &item.max_limit_request_ratio, errors);
    let all = [&item.max, &item.min, &item.default, &item.default_request, &item.max_limit_request_ratio];
    let keys: BTreeSet<&String> = all.into_iter().flatten().flat_map(BTreeMap::keys).collect();
    for name in keys {
        in_order(item, name, path, errors);
        ratio(item, name, path, errors);
        same_default(item, name, path, errors);
    }
}

/// What may not be above what, of one resource: a lower and a higher amount, each with its word, the field that is to
/// blame, and whether it is the lower one that is shown.
fn in_order(item: &core::LimitRangeItem, name: &str, path: &FieldPath, errors: &mut Errors) {
    // Pods have no defaults.
    let none = None;
    let of_pod = item.type_ == "Pod";
    let (limit, request) = if of_pod { (&none, &none) } else { (&item.default, &item.default_request) };
    let (min, max) = ((&item.min, "min"), (&item.max, "max"));
    let order = [
        (min, max, "min", true),
        (min, (request, "default request"), "defaultRequest", false),
        ((request, "default request"), max, "defaultRequest", true),
        ((request, "default request"), (limit, "default limit"), "defaultRequest", true),
        (min, (limit, "default"), "default", true),
        ((limit, "default"), max, "default", false),
    ];
    for ((lows, low_word), (highs, high_word), field, shows_low) in order {
        let (Some(low), Some(high)) = (get(lows, name), get(highs, name)) else { continue };
        if validate::number(low) > validate::number(high) {
            let why = format!("{low_word} value {} is greater than {high_word} value {}", low.0, high.0);
            let shown = if shows_low { low } else { high };
            errors.push(FieldError::invalid(&path.child(field).key(name), shown.0.as_str(), why));
        }
    }
}

fn get<'a>(amounts: &'a Amounts, name: &str) -> Option<&'a Quantity> {
    amounts.as_ref()?.get(name)
}

fn ratio(item: &core::LimitRangeItem, name: &str, path: &FieldPath, errors: &mut Errors) {
    let Some(ratio) = get(&item.max_limit_request_ratio, name) else { return };
    let at = path.child("maxLimitRequestRatio").key(name);
    let value = validate::number(ratio);
    if value.milli() < 1000 {
        let why = format!("ratio {} is less than 1", ratio.0);
        errors.push(FieldError::invalid(&at, ratio.0.as_str(), why));
    }
    let number = |amounts| get(amounts, name).map(|amount| validate::number(amount).approximate());
    if let (Some(min), Some(max)) = (number(&item.min), number(&item.max)) {
        let most = max / min;
        if value.approximate() > most {
            let most = if most.is_infinite() { "+Inf".to_owned() } else { format!("{most:.6}") };
            let why = format!("ratio {} is greater than max/min = {most}", ratio.0);
            errors.push(FieldError::invalid(&at, ratio.0.as_str(), why));
        }
    }
}

/// What cannot be promised twice is asked for as it is limited.
fn same_default(item: &core::LimitRangeItem, name: &str, path: &FieldPath, errors: &mut Errors) {
    let (Some(limit), Some(request)) = (get(&item.default, name), get(&item.default_request, name)) else {
        return;
    };
    let differ = validate::number(limit) != validate::number(request);
    if item.type_ != "Pod" && !validate::can_overcommit(name) && differ {
        let why =
            format!("default value {} must equal to defaultRequest value {} in {name}", limit.0, request.0);
        let at = path.child("defaultRequest").key(name);
        errors.push(FieldError::invalid(&at, request.0.as_str(), why));
    }
}
