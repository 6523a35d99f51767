//! Validation that kinds share, typed, in upstream's words and paths.

mod affinity;
mod annotations;
mod claim_statuses;
mod claims;
mod conditions;
mod container;
mod container_statuses;
mod dns;
mod environment;
mod ephemeral;
mod fields;
mod handler;
mod iscsi;
mod label_keys;
mod os;
mod pod;
mod pod_status;
mod pod_update;
mod resources;
mod restart;
mod scaled;
mod security;
mod selector;
mod volume;
mod volume_plugins;
mod volume_source;
mod warnings;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde_json::Value;

use crate::names;
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldPath};

pub(crate) use affinity::{TAINT_EFFECTS, node_selector, tolerations};
pub(crate) use annotations::pod_annotations_update;
pub(crate) use conditions::conditions;
pub(crate) use label_keys::merge as merge_label_keys;
pub(crate) use pod::{pod, pod_create, pod_template};
pub(crate) use pod_status::pod_status;
pub(crate) use pod_update::pod_update;
pub(crate) use resources::{amount as resource_amount, name as resource_name, requirements};
pub(crate) use resources::{can_overcommit, container_name as container_resource_name};
pub(crate) use scaled::{int_or_percent, not_over_whole, part_of_whole};
pub(crate) use selector::{label_map, label_selector};
pub(crate) use volume::no_way_up;
pub(crate) use volume_plugins::{Place as VolumePlace, check as volume_plugin, local as local_volume};
pub(crate) use volume_source::host_path;
pub(crate) use warnings::{
    OLD_PLUGINS, Subject, Warnings, address as address_warnings, claim_warnings, host_name, node_terms,
    pod_warnings, range as range_warnings,
};

/// Where validation puts what is wrong.
pub(crate) type Errors = Vec<FieldError>;

/// Adds the messages of a rule as refusals of `value` at `path`.
pub(crate) fn refuse(path: &FieldPath, value: &str, messages: Vec<String>, errors: &mut Errors) {
    errors.extend(messages.into_iter().map(|why| FieldError::invalid(path, value, why)));
}

/// A text that has to be there; answers whether it is.
pub(crate) fn require(path: &FieldPath, text: &str, errors: &mut Errors) -> bool {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    !text.is_empty()
}

/// A text that has to be there and to keep a rule.
pub(crate) fn require_by(path: &FieldPath, text: &str, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
    if require(path, text, errors) {
        refuse(path, text, rule(text), errors);
    }
}

/// A text that has to be one of `allowed`.
pub(crate) fn one_of(path: &FieldPath, text: &str, allowed: &[&str], errors: &mut Errors) {
    if !allowed.contains(&text) {
        errors.push(FieldError::not_supported(path, text, allowed));
    }
}

/// A text that has to be there and to be one of `allowed`.
pub(crate) fn require_one_of(path: &FieldPath, text: &str, allowed: &[&str], errors: &mut Errors) {
    if require(path, text, errors) {
        one_of(path, text, allowed, errors);
    }
}

/// A text that has to be one of `allowed`, which upstream tells in this order.
pub(crate) fn one_in_order(path: &FieldPath, text: &str, allowed: &[&str], errors: &mut Errors) {
    if !allowed.contains(&text) {
        errors.push(FieldError::not_supported_in_order(path, text, allowed));
    }
}

/// A text that has to be there and to be one of `allowed`, which upstream tells in this order.
pub(crate) fn require_in_order(path: &FieldPath, text: &str, allowed: &[&str], errors: &mut Errors) {
    if require(path, text, errors) {
        one_in_order(path, text, allowed, errors);
    }
}

/// `example.com/path`, refused part by part.
pub(crate) fn domain_prefixed_path(path: &FieldPath, text: &str, errors: &mut Errors) {
    if !require(path, text, errors) {
        return;
    }
    match names::domain_and_path(text) {
        Ok(parts) => parts.into_iter().for_each(|(part, wrong)| refuse(path, part, wrong, errors)),
        Err(why) => errors.push(FieldError::invalid(path, text, why)),
    }
}

/// A name that fits into one segment of a path, with upstream's word where there is none.
pub(crate) fn require_segment(path: &FieldPath, text: &str, missing: &str, errors: &mut Errors) {
    if text.is_empty() {
        errors.push(FieldError::required(path, missing));
    } else {
        refuse(path, text, names::path_segment(text, false), errors);
    }
}

/// A whole number that may not be below 0.
pub(crate) fn not_negative(path: &FieldPath, number: i64, errors: &mut Errors) {
    if number < 0 {
        errors.push(FieldError::invalid(path, number, names::NOT_NEGATIVE));
    }
}

/// Name of a CSI or DRA driver.
pub(crate) fn csi_driver_name(path: &FieldPath, name: &str, errors: &mut Errors) {
    if require(path, name, errors) {
        if name.len() > names::MAX_LABEL {
            errors.push(FieldError::too_long(path, names::MAX_LABEL));
        }
        refuse(path, name, names::dns1123_subdomain(&name.to_lowercase()), errors);
    }
}

/// A value that an update may not change.
pub(crate) fn unchanged<T: PartialEq + serde::Serialize>(
    path: &FieldPath,
    new: &T,
    old: &T,
    errors: &mut Errors,
) {
    if !same(new, old) {
        errors.push(FieldError::invalid(path, shown(new), names::IMMUTABLE));
    }
}

/// Whether two values mean the same to Go, which writes no empty ones.
pub(crate) fn same<T: PartialEq + serde::Serialize>(a: &T, b: &T) -> bool {
    a == b || crate::meta::same(Some(&shown(a)), Some(&shown(b)))
}

/// A port number other than 0.
pub(crate) fn port(path: &FieldPath, number: i32, errors: &mut Errors) {
    let messages = names::port_number(i64::from(number));
    errors.extend(messages.into_iter().map(|why| FieldError::invalid(path, number, why)));
}

/// A quantity's number. Decoding has refused everything that is none; absent or broken is 0.
pub(crate) fn number(quantity: &ApiQuantity) -> Quantity {
    Quantity::parse(&quantity.0).unwrap_or(Quantity::ZERO)
}

/// A typed value as messages show it.
pub(crate) fn shown<T: serde::Serialize + ?Sized>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// An optional text, absent being empty.
pub(crate) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// An optional list, absent being empty.
pub(crate) fn list<T>(value: &Option<Vec<T>>) -> &[T] {
    value.as_deref().unwrap_or_default()
}
